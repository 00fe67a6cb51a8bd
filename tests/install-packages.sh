#!/bin/sh
# Installs what the build, the tests and the demo need beyond the Rust toolchain, if it is missing.
set -eu

# gcc: the linker. protobuf-compiler: builds etcd's client. shellcheck: lints. The others are run by the lab and by
# tests; curl is what `make demo KEEP=1` tells to try; iptables of the older kind loads its modules by kmod.
packages="gcc protobuf-compiler etcd-server etcd-client iproute2 iputils-ping nftables iptables conntrack kmod containerd runc busybox-static openssl shellcheck curl jq procps ipvsadm ipset tcpdump libcap2-bin binutils"

missing=
for package in $packages; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' ||
        missing="$missing $package"
done
[ -n "$missing" ] || exit 0

echo "Installing:$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # one word a package
if ! { apt-get update && apt-get install -y --no-install-recommends $missing; } >"$log" 2>&1; then
    cat "$log" >&2
    echo "apt-get could not install:$missing" >&2
    exit 1
fi
