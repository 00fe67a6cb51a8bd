#!/bin/sh
# Runs the tests that meet dummy, ipip, WireGuard and VLANs, those of bridge ports too, under Debian's kernel,
# which has them, on this machine's own files: qemu through virtme-ng, in software, so about two minutes.
#
#   kernel/tests/debian-kernel.sh [vmlinuz]
#
# Needs: apt-get install qemu-system-x86 linux-image-amd64 kmod jq; pip install virtme-ng.
set -eu
cd "$(dirname "$0")/../.."
kernel=${1:-$(ls /boot/vmlinuz-*-amd64 | sort -V | tail -n 1)}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

for test in kernel/link kernel/wireguard cni-plugin/vlan; do
    cargo test --quiet --package "${test%/*}" --test "${test#*/}" --no-run --message-format=json |
        jq -r 'select(.executable != null and .profile.test) | .executable' >>"$out/tests"
done
cat >"$out/run" <<RUN
for module in dummy ipip 8021q wireguard veth bridge ifb vxlan; do modprobe \$module; done
mount -t tmpfs none /run
while read -r test; do "\$test" --nocapture && echo "passed: \$test" || echo "FAILED: \$test"; done <"$out/tests" >"$out/log" 2>&1
echo done >>"$out/log"
RUN
vng -r "$kernel" --user root --disable-kvm --force-9p --rwdir="$out" -- sh "$out/run" >"$out/console" 2>&1 || true
cat "$out/log" || { cat "$out/console"; exit 1; }
# The exit code of the machine says nothing; what was written does.
tail -n 1 "$out/log" | grep -qx done
! grep -q '^FAILED' "$out/log"
