#!/usr/bin/env bash
# Runs the image and the manifests in a real Kubernetes cluster on this machine, for each overlay in a new one:
# deploy/kind/end-to-end.sh, as in kind, and what only a real API server can tell (api.sh), what happens in the life of a
# cluster (life.sh), and for kube what goes wrong in one (trouble.sh).
#
#   TWEED_KUBERNETES=PROGRAMS tests/kubernetes/run.sh [OVERLAY...]
#
# PROGRAMS is a directory with Kubernetes' kube-apiserver, kube-controller-manager, kube-scheduler and kubelet. Overlays
# are kube, proxy-iptables and dual-stack if none is named; etcd and proxy-ipvs are the others. IMAGE is the image's
# archive if not target/image/tweed.tar, BINARIES the directory of the programs in it; OLDER, if set, the archive of an
# image of an older release, made with IMAGE=tweed.local/tweed:older deploy/image/build.sh. Needs what cluster.sh needs,
# kubectl and jq.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
cd "$here/../.."
image=${IMAGE:-target/image/tweed.tar}
binaries=${BINARIES:-target/$(rustc -vV | sed -n 's/^host: //p')/dist}
[ -f "$image" ] || { echo "run.sh: no $image: make image" >&2; exit 1; }
# Debian's busybox breaks over wget's -T.
export NODE1=node1 NODE2=node2 RUN=$here/in-cluster.sh GET='timeout 10 wget -q -O -'
export ETCD=http://10.8.65.1:2379

cleanup() {
    status=$?
    if [ $status -ne 0 ]; then
        tail -n 5 /run/tweed-kubernetes/*/*.log >&2 || true
    fi
    "$here/cluster.sh" down
}
trap cleanup EXIT
[ $# -gt 0 ] || set -- kube proxy-iptables dual-stack
for overlay; do
    export ALSO=$here/life.sh
    # What goes wrong is not of one overlay.
    [ "$overlay" != kube ] || ALSO+=" $here/trouble.sh"
    echo "==> A cluster for $overlay"
    "$here/cluster.sh" up "$image" ${OLDER:+"$OLDER"}
    "$here/cluster.sh" admin "$here/api.sh" "$overlay"
    [ "$overlay" != etcd ] || "$here/cluster.sh" admin env ETCDCTL_API=3 \
        etcdctl put /coreos.com/network/config "$(cat deploy/net-conf.json)"
    "$here/cluster.sh" admin deploy/kind/end-to-end.sh "deploy/manifests/overlays/$overlay" 10.8.65.1 "$binaries"
    "$here/cluster.sh" down
done
