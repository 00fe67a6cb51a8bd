#!/bin/sh
# Runs a command and fails if it leaves anything behind on this machine: network namespaces, interfaces, nftables
# tables, files of labs and at the root, or processes (those built here, and the servers that tests start).
set -eu
cd "$(dirname "$0")/.."

list() {
    find /run/netns -mindepth 1 -printf 'namespace %f\n' 2>/dev/null || true
    ip -brief link | sed 's/[ @].*//; s/^/link /'
    nft list tables
    find / -mindepth 1 -maxdepth 1 -printf 'file %p\n'
    find /run/tweed-lab -mindepth 1 -maxdepth 1 -printf 'lab %f\n' 2>/dev/null || true
    for process in /proc/[0-9]*; do
        case $(readlink "$process/exe" 2>/dev/null) in
            "$PWD"/target/* | */etcd | */containerd | */containerd-shim*) echo "process ${process#/proc/}" ;;
        esac
    done
}

before=$(mktemp)
after=$(mktemp)
trap 'rm -f "$before" "$after"' EXIT
list | sort >"$before"
status=0
"$@" || status=$?
list | sort >"$after"
left=$(comm -13 "$before" "$after")
if [ -n "$left" ]; then
    printf 'Left behind:\n%s\n' "$left" >&2
    exit 1
fi
exit $status
