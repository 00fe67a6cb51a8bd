#!/bin/sh
# Runs tests that need what Debian's kernel has and others may lack (IPVS, dummy, ipip, WireGuard, VLANs), and the
# packet suite in every mode, in one boot of that kernel in qemu.
#
#   tests/debian-kernel/run.sh [short | PACKAGE/TEST ARGUMENT...]
#
# `short` is what `make test` runs: rows of the packet suite chosen to fit into a few minutes of emulation. Where
# the kernel or qemu can't be had, `short` says why and passes; anything else fails.
set -eu
cd "$(dirname "$0")/../.."

short='
kernel/link
kernel/wireguard
kernel/ipvs
cni-plugin/vlan
'
all='
kernel/link
kernel/wireguard
kernel/ipvs
cni-plugin/vlan
flannel-agent/agent tunnels::
service-proxy/packets --skip modes::
'

case ${1:-} in
'') rows=$all ;;
short) rows=$short ;;
*) rows=$* ;;
esac
if ! VMLINUZ=${VMLINUZ:-$(tests/debian-kernel/install.sh)}; then
    echo "No tests under Debian's kernel, for the reason above" >&2
    [ "${1:-}" = short ]
    exit
fi
export VMLINUZ

script=$(mktemp)
trap 'rm -f "$script"' EXIT
cat >"$script" <<'RUN'
export TWEED_PATIENCE=10 RUST_TEST_THREADS=4 failed=
# At once: nftables sends a batch again for each module that it waits for.
modprobe -a $(cat tests/debian-kernel/modules)
row() {
    echo "--- $*"
    test=$1 executable=$2
    shift 2
    (cd "${test%/*}" && "$executable" "$@") || failed="$failed $test"
}
RUN
echo "$rows" | while read -r test arguments; do
    [ -n "$test" ] || continue
    executable=$(cargo test --quiet --package "${test%/*}" --test "${test#*/}" --no-run --message-format=json |
        sed -n '/"kind":\["test"\]/s/.*"executable":"\([^"]*\)".*/\1/p')
    [ -n "$executable" ] || exit 1
    echo "row $test $executable $arguments"
done >>"$script"
cat >>"$script" <<'RUN'
[ -z "$failed" ] || echo "failed:$failed"
[ -z "$failed" ]
RUN
tests/debian-kernel/boot.sh <"$script"
