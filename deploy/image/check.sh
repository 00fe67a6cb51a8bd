#!/usr/bin/env bash
# Imports target/image/tweed.tar into a containerd of its own, and runs each program from the image as the manifests
# do. Needs root, containerd and runc; nothing of it is left behind.
set -euo pipefail
cd "$(dirname "$0")/../.."
archive=$PWD/target/image/tweed.tar
[ -f "$archive" ] || { echo "check.sh: no $archive: run deploy/image/build.sh" >&2; exit 1; }

dir=$(mktemp -d)
address=$dir/containerd.sock
cat >"$dir/containerd.toml" <<CONF
version = 2
root = "$dir/root"
state = "$dir/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
address = "$address"
CONF
containerd --config "$dir/containerd.toml" >"$dir/log" 2>&1 &
containerd=$!
cleanup() {
    kill "$containerd"
    wait "$containerd" || true
    rm -rf "$dir"
}
trap cleanup EXIT
ctr() { command ctr --address "$address" --namespace tweed-check "$@"; }
for _ in $(seq 50); do
    ctr version >"$dir/version" 2>&1 && break
    sleep 0.1
done

ctr image import "$archive"
image=$(ctr image list -q)
# Containers of a node share its network; no capabilities but those of the manifests.
run() {
    name=$1
    shift
    echo "==> $*"
    ctr run --rm --snapshotter native --cap-drop CAP_NET_RAW --mount \
        "type=bind,src=$dir/mnt,dst=/mnt,options=rbind:rw" "$image" "$name" "$@"
}
mkdir "$dir/mnt"
cp deploy/10-flannel.conflist "$dir/mnt/cni-conf.json"
run agent flannel-agent --version
run proxy service-proxy --version
run install cni-plugin install /mnt /mnt/cni-conf.json /mnt/10-flannel.conflist
run iptables-nft iptables-nft --version
run iptables-legacy iptables-legacy --version
CNI_COMMAND=VERSION "$dir/mnt/bridge" </dev/null
cmp "$dir/mnt/10-flannel.conflist" deploy/10-flannel.conflist
echo "the image works: $image"
