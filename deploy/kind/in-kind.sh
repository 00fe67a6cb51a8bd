#!/bin/sh
# RUN of checks.sh in a kind cluster.
set -eu
kind=$1 name=$2
shift 2
case $kind in
pod) exec kubectl exec "$name" -- "$@" ;;
node) exec docker exec "$name" "$@" ;;
esac
