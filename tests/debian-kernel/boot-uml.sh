#!/bin/sh
# Runs a shell script under Debian's user-mode kernel, on this machine's own files, as boot.sh does in qemu: the
# script comes on stdin and is run by root in the current directory; what it prints comes out as it is printed, and
# its exit status is this one's.
#
#   tests/debian-kernel/boot-uml.sh <SCRIPT
#
# Computing is not emulated, so that what starts many programs is over several times sooner than in qemu. There is one
# processor, and no nf_tables for IPv4: the programs of iptables for it are not there either.
#
# LIMIT     how long it may take, 30m
set -eu
here=$(cd "$(dirname "$0")" && pwd)
if ! command -v linux.uml >/dev/null; then
    echo "Installing: user-mode-linux" >&2
    apt-get update >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends user-mode-linux >/dev/null
fi
share=$(mktemp -d)
trap 'rm -rf "$share"' EXIT
{
    echo "cd '$PWD' || exit"
    cat
} >"$share/script"
# What the kernel does not know of these words becomes init's environment.
timeout --foreground "${LIMIT:-30m}" linux.uml "mem=${MEMORY:-3G}" root=/dev/root rootfstype=hostfs ro \
    "init=$here/init-uml" "share=$share" con=null con0=fd:0,fd:1 quiet </dev/null
exit "$(cat "$share/status")"
