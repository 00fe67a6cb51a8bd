#!/bin/sh
# Runs tests that need what Debian's kernel has and others may lack (IPVS, dummy, ipip, WireGuard, VLANs), and the
# packet suite in every mode, in one boot of that kernel in qemu.
#
#   tests/debian-kernel/run.sh [short | [VARIABLE=VALUE...] PACKAGE/TEST ARGUMENT...]
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
TWEED_PROXY_MODE=ipvs service-proxy/packets ipvs:: everybody_reaches what_nobody_serves_is_refused_at_once_v4
    manifests_are_followed_live_v6 datagrams_find_another_endpoint_v4 external::policy_cluster_v4
    external::policy_local_v6 external::only_some_may_use_the_load_balancer_v4
    affinity::a_client_keeps_its_endpoint_at_all_addresses_v4
TWEED_PROXY_MODE=ipvs TWEED_IPVS_FILTER=ipset service-proxy/packets everybody_reaches_every_endpoint_v4
service-proxy/packets switch::no_connection_is_lost_to_a_restart_in_another_mode_v4
'
all='
kernel/link
kernel/wireguard
kernel/ipvs
kernel/ipset
cni-plugin/vlan
flannel-agent/agent tunnels::
service-proxy/packets --skip modes::
service-proxy/packets --nocapture modes::every_row_holds_with_ipvs
TWEED_PROXY_MODE=ipvs TWEED_IPVS_FILTER=ipset service-proxy/packets everybody_reaches what_nobody_serves
    external::policy external::only_some external::without_endpoints external::pods_are_known
    external::topology_hints external::node_ports inspect:: ipvs:: takeover::
    --skip inspect::a_difference_is_shown --skip inspect::an_explanation_can_be_read --skip ipvs::differences_are_commands
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
    directory=$1
    shift
    echo "--- $*"
    (cd "$directory" && env "$@") || failed="$failed $directory"
}
RUN
# A line that begins with a space belongs to the one before it.
echo "$rows" | sed -e ':a' -e 'N;$!ba' -e 's/\n  */ /g' | while read -r row; do
    [ -n "$row" ] || continue
    # shellcheck disable=SC2086 # words
    set -- $row
    variables=
    while [ "$1" != "${1#*=}" ]; do
        variables="$variables $1"
        shift
    done
    package=${1%/*}
    executable=$(cargo test --quiet --package "$package" --test "${1#*/}" --no-run --message-format=json |
        sed -n '/"kind":\["test"\]/s/.*"executable":"\([^"]*\)".*/\1/p')
    [ -n "$executable" ] || exit 1
    shift
    echo "row $package$variables $executable $*"
done >>"$script"
cat >>"$script" <<'RUN'
[ -z "$failed" ] || echo "failed:$failed"
[ -z "$failed" ]
RUN
tests/debian-kernel/boot.sh <"$script"
