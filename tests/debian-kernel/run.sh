#!/bin/sh
# Runs tests that need what Debian's kernel has and others may lack (IPVS, dummy, ipip, WireGuard, VLANs), and the
# packet suite in every mode, in one boot of that kernel in qemu; and rows with ipsets that start many programs under
# the same version of it in user mode, where they are not emulated.
#
#   tests/debian-kernel/run.sh [short | [VARIABLE=VALUE...] PACKAGE/TEST ARGUMENT...]
#
# BOOT      for a row that is named: the other script to boot with, boot-uml.sh
#
# `short` is what `make test` runs: what only that kernel has, and of the packet suite all rows with IPVS, some with ipsets
# and some changes of mode, which takes some minutes of emulation. Where the kernel or qemu can't be had, `short`
# says why and passes; anything else fails.
set -eu
cd "$(dirname "$0")/../.."

short='
kernel/link
kernel/wireguard
kernel/ipvs
cni-plugin/vlan
service-proxy/packets --nocapture modes::every_row_holds_with_ipvs
TWEED_PROXY_MODE=ipvs service-proxy/packets ipvs:: ipvs_filter::people_see takeover::every_mode
TWEED_PROXY_MODE=ipvs TWEED_IPVS_FILTER=ipset service-proxy/packets everybody_reaches_every_endpoint_v4
    external::policy_local_v4
service-proxy/packets switch::no_connection_is_lost_to_a_restart_in_another_mode_v4
    switch::no_connection_is_lost_to_another_mode_in_the_file_legacy
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
    external::policy external::only_some ipvs:: takeover::cleaning_up --skip ipvs::differences_are_commands
'
# With legacy tables.
user_mode='
TWEED_PATIENCE=4 TWEED_PROXY_MODE=ipvs TWEED_IPVS_FILTER=ipset service-proxy/packets everybody_reaches
    what_nobody_serves external:: inspect:: --skip external::external_ips_are_not
    --skip inspect::a_difference_is_shown --skip inspect::an_explanation_can_be_read
'

case ${1:-} in
'')
    rows=$all
    export LIMIT="${LIMIT:-90m}"
    ;;
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

# Writes the script that runs rows.
write_script() {
    cat <<'RUN'
export TWEED_PATIENCE=10 RUST_TEST_THREADS=4 failed=
# At once: nftables sends a batch again for each module that it waits for. The kernel in user mode lacks some.
modprobe --all --quiet $(cat tests/debian-kernel/modules)
row() {
    directory=$1
    shift
    echo "--- $*"
    (cd "$directory" && env "$@") || failed="$failed $directory"
}
RUN
    # A line that begins with a space belongs to the one before it.
    echo "$1" | sed -e ':a' -e 'N;$!ba' -e 's/\n  */ /g' | while read -r row; do
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
    done
    cat <<'RUN'
[ -z "$failed" ] || echo "failed:$failed"
[ -z "$failed" ]
RUN
}

status=0
write_script "$rows" >"$script"
"tests/debian-kernel/${BOOT:-boot.sh}" <"$script" || status=$?
if [ -z "${1:-}" ]; then
    write_script "$user_mode" >"$script"
    tests/debian-kernel/boot-uml.sh <"$script" || status=$?
fi
exit $status
