#!/bin/sh
# Runs the tests that meet dummy, ipip, WireGuard, IPVS and VLANs, those of bridge ports too, under Debian's kernel,
# which has them, on this machine's own files: qemu through virtme-ng, in software, so some minutes.
#
#   kernel/tests/debian-kernel.sh [TEST]...      all, or those of kernel/link kernel/wireguard ...
#
# Needs: apt-get install qemu-system-x86 linux-image-amd64 kmod jq etcd-server ipvsadm; pip install virtme-ng.
# VMLINUZ names another kernel than the newest in /boot.
set -eu
cd "$(dirname "$0")/../.."
kernel=${VMLINUZ:-$(ls /boot/vmlinuz-*-amd64 | sort -V | tail -n 1)}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# Of the agent's tests, which are many, those that need such a kernel.
for test in ${*:-kernel/link kernel/wireguard kernel/ipvs cni-plugin/vlan flannel-agent/agent}; do
    case $test in
    flannel-agent/*) filter=tunnels:: ;;
    *) filter= ;;
    esac
    cargo test --quiet --package "${test%/*}" --test "${test#*/}" --no-run --message-format=json |
        jq -r --arg filter "$filter" 'select(.executable != null and .profile.test) | "\(.executable) \($filter)"' >>"$out/tests"
done
cat >"$out/run" <<RUN
for module in dummy ipip 8021q wireguard veth bridge ifb vxlan nf_tables nft_chain_nat nft_masq; do modprobe \$module; done
mount -t tmpfs none /run
while read -r test; do \$test --nocapture && echo "passed: \$test" || echo "FAILED: \$test"; done <"$out/tests" >"$out/log" 2>&1
echo done >>"$out/log"
RUN
vng -r "$kernel" --user root --disable-kvm --force-9p --rwdir="$out" -- sh "$out/run" </dev/null >"$out/console" 2>&1 ||
    true
cat "$out/log" || { cat "$out/console"; exit 1; }
# The exit code of the machine says nothing; what was written does.
tail -n 1 "$out/log" | grep -qx done
! grep -q '^FAILED' "$out/log"
