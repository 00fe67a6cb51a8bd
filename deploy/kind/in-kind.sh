#!/bin/sh
# RUN of end-to-end.sh and checks.sh in a kind cluster.
set -eu
kind=$1 name=$2
shift 2
case $kind in
pod) exec kubectl exec "$name" -- "$@" ;;
node) exec docker exec "$name" "$@" ;;
copy) exec docker cp "$1" "$name:$2/" ;;
esac
