#!/usr/bin/env bash
# Builds the image, makes a kind cluster that has nothing but Tweed for pods and Services, runs end-to-end.sh in it, and
# deletes the cluster. Needs kind, kubectl, docker, and what deploy/image/build.sh needs.
#
#   OVERLAY=proxy-iptables deploy/kind/run.sh   another overlay than kube: proxy-iptables, proxy-ipvs or dual-stack
#   IMAGE_BUILT=1 deploy/kind/run.sh            goes by target/image/tweed.tar as it is
#   KEEP=1 deploy/kind/run.sh                   leaves the cluster, with everything in it
set -euo pipefail
cd "$(dirname "$0")/../.."

overlay=${OVERLAY:-kube}
cluster=tweed
here=deploy/kind
image=target/image/tweed.tar
export NODE1=$cluster-control-plane NODE2=$cluster-worker RUN=$PWD/$here/in-kind.sh

step() { echo "==> $*"; }
fail() {
    echo "run.sh: $*" >&2
    exit 1
}

for program in kind kubectl docker; do
    command -v $program >/dev/null || fail "no $program here"
done
config=$here/cluster.yaml
case $overlay in
kube | proxy-iptables | proxy-ipvs) ;;
dual-stack)
    config=$here/cluster-dual-stack.yaml
    export ALSO=$here/both-families.sh
    ;;
*) fail "OVERLAY=$overlay is none of kube, proxy-iptables, proxy-ipvs and dual-stack" ;;
esac
clusters=$(kind get clusters)
! grep -qx $cluster <<<"$clusters" || fail "there is a cluster already: kind delete cluster --name $cluster"

if [ -z "${IMAGE_BUILT:-}" ]; then
    step "Building the image"
    deploy/image/build.sh
fi
[ -f $image ] || fail "no $image: make image"

work=$(mktemp -d)
cleanup() {
    if [ -n "${KEEP:-}" ]; then
        step "To look around: kind export kubeconfig --name $cluster; in the end: kind delete cluster --name $cluster"
    else
        kind delete cluster --name $cluster
    fi
    rm -rf "$work"
}
trap cleanup EXIT
# One of its own: whichever cluster the user's kubectl turns to meanwhile, nothing of this is done there.
export KUBECONFIG=$work/kubeconfig

step "Making the cluster"
kind create cluster --name $cluster --config $config
kind load image-archive --name $cluster $image

# Nobody serves the API server's cluster IP before the proxy runs.
server=$(docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' $NODE1)
binaries=target/$(rustc -vV | sed -n 's/^host: //p')/dist
$here/end-to-end.sh "deploy/manifests/overlays/$overlay" "$server" "$binaries"
