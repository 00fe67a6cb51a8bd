#!/bin/sh
# RUN of end-to-end.sh and checks.sh in the cluster that cluster.sh makes.
set -eu
cluster=$(dirname "$0")/cluster.sh
kind=$1 name=$2
shift 2

# Enters a pod of a node without the API server, which may be away.
# shellcheck disable=SC2016 # the node's shell expands it
enter='
set -eu
labels="labels.\"io.kubernetes.pod.name\"==$1,labels.\"io.cri-containerd.kind\"==container"
shift
containers=$(ctr -n k8s.io containers list -q "$labels")
# One that has ended may be there beside the one that runs.
process=$(ctr -n k8s.io task list | while read -r id process status; do
    case "$status $containers" in RUNNING*"$id"*) echo "$process" ;; esac
done)
exec nsenter --target "$process" --mount --net --uts --root --wd -- "$@"
'
case $kind in
# The number of a pod is that of its node.
pod) exec "$cluster" on "node${name#"${name%?}"}" sh -c "$enter" sh "$name" "$@" ;;
node) exec "$cluster" on "$name" "$@" ;;
copy) exec "$cluster" on "$name" sh -c "cat >$2/${1##*/} && chmod +x $2/${1##*/}" <"$1" ;;
esac
