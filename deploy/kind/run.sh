#!/usr/bin/env bash
# Builds the image, makes a kind cluster that has nothing but Tweed for pods and Services, runs end-to-end.sh in it, and
# deletes the cluster. Needs kind, kubectl, docker, and what deploy/image/build.sh needs.
#
#   OVERLAY=proxy-iptables deploy/kind/run.sh   another overlay than kube
#   IMAGE_BUILT=1 deploy/kind/run.sh            goes by target/image/tweed.tar as it is
#   KEEP=1 deploy/kind/run.sh                   leaves the cluster, with everything in it
set -euo pipefail
cd "$(dirname "$0")/../.."

overlay=deploy/manifests/overlays/${OVERLAY:-kube}
cluster=tweed
here=deploy/kind
export NODE1=$cluster-control-plane NODE2=$cluster-worker RUN=$PWD/$here/in-kind.sh
cleanup() {
    [ -n "${KEEP:-}" ] || kind delete cluster --name $cluster
}
trap cleanup EXIT

step() { echo "==> $*"; }

if [ -z "${IMAGE_BUILT:-}" ]; then
    step "Building the image"
    deploy/image/build.sh
fi
step "Making the cluster"
kind create cluster --name $cluster --config $here/cluster.yaml
kind load image-archive --name $cluster target/image/tweed.tar

# Nobody serves the API server's cluster IP before the proxy runs.
server=$(docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' $NODE1)
binaries=target/$(rustc -vV | sed -n 's/^host: //p')/dist
$here/end-to-end.sh "$overlay" "$server" "$binaries"
