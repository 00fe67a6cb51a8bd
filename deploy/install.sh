#!/bin/sh
# Installs Tweed on a machine without a cluster, and takes it away again.
#
#   install.sh BINARIES      installs the programs of the directory BINARIES, the CNI plugins, a network
#                            configuration list and systemd units
#   install.sh --uninstall   undoes that: files that were replaced come back, files that were new go, and so does
#                            what the programs made in the kernel
#   install.sh --uninstall --keep-kernel
#                            the same, but pods keep their network: for going back to flannel while they run
#
# Nothing is started or enabled: the end of the output says how. PREFIX=/some/root installs into another root.
# What was broken off at any moment is finished by running it again.
set -eu

PREFIX=${PREFIX:-}
STATE=$PREFIX/var/lib/tweed/install
PROGRAMS='cni-plugin flannel-agent service-proxy'
UNITS='flannel-agent.service service-proxy.service'
# What the CNI plugins keep of pods.
RESERVATIONS=/var/lib/cni/networks/cbr0
KEPT="$RESERVATIONS /var/lib/cni/networks /var/lib/cni/flannel /var/lib/cni"
here=$(cd "$(dirname "$0")" && pwd)

say() { echo "install.sh: $*"; }
fail() {
    echo "install.sh: $*" >&2
    exit 1
}
usage='usage: install.sh BINARIES | install.sh --uninstall [--keep-kernel]'

# Whether something is there, be it a link to nowhere.
exists() { [ -e "$1" ] || [ -h "$1" ]; }

# note PATH LIST: once.
note() { grep -qxF "$1" "$STATE/$2" || echo "$1" >>"$STATE/$2"; }

# Takes note of a file before it is made or replaced, and keeps what it replaces.
keep() {
    grep -qxF "$1" "$STATE/files" && return
    if exists "$PREFIX$1"; then
        mkdir -p "$STATE/replaced$(dirname "$1")"
        copy "$PREFIX$1" "$STATE/replaced$1"
    fi
    note "$1" files
}

# copy SOURCE TARGET: as it is, by rename, so that nobody ever sees half a file.
copy() {
    rm -f "$2.tweed-new"
    cp -pP "$1" "$2.tweed-new"
    mv -f "$2.tweed-new" "$2"
}

# Makes a directory and those above it, and takes note of those that are new before they are there.
directory() {
    [ -d "$PREFIX$1" ] && return
    directory "$(dirname "$1")"
    note "$1" directories
    mkdir "$PREFIX$1"
    say "made $1"
}

# put MODE SOURCE PATH: by rename as well.
put() {
    directory "$(dirname "$3")"
    keep "$3"
    cp "$2" "$PREFIX$3.tweed-new"
    chmod "$1" "$PREFIX$3.tweed-new"
    mv -f "$PREFIX$3.tweed-new" "$PREFIX$3"
    say "installed $3"
}

install_all() {
    binaries=$1
    for program in $PROGRAMS; do
        [ -x "$binaries/$program" ] || fail "$binaries/$program: no such program; build them by: make dist"
    done
    if [ ! -e "$STATE/files" ]; then
        # What an uninstallation that was broken off at its very end has left.
        rm -rf "$STATE"
        mkdir -p "$STATE"
        touch "$STATE/kept" "$STATE/directories"
        # Those that are there already are somebody else's.
        for path in $KEPT; do
            [ -e "$PREFIX$path" ] || note "$path" kept
        done
        touch "$STATE/files"
    fi
    # An uninstallation that was broken off is undone.
    rm -f "$STATE/cleaned"
    for program in $PROGRAMS; do
        put 755 "$binaries/$program" "/usr/local/bin/$program"
    done
    directory /opt/cni/bin
    # Under which names, before it is under them.
    rm -rf "$STATE/names"
    mkdir "$STATE/names"
    "$binaries/cni-plugin" install "$STATE/names" >/dev/null
    for name in "$STATE/names"/*; do
        keep "/opt/cni/bin/${name##*/}"
    done
    rm -rf "$STATE/names"
    directory /etc/cni/net.d
    keep /etc/cni/net.d/10-flannel.conflist
    "$binaries/cni-plugin" install "$PREFIX/opt/cni/bin" "$here/10-flannel.conflist" \
        "$PREFIX/etc/cni/net.d/10-flannel.conflist"
    directory /etc/tweed/manifests
    for unit in $UNITS; do
        put 644 "$here/systemd/$unit" "/etc/systemd/system/$unit"
    done
    say "done. To go on:"
    echo "  etcdctl put /coreos.com/network/config \"\$(cat $here/net-conf.json)\"   # once for the cluster"
    echo "  echo FLANNELD_ETCD_ENDPOINTS=http://ETCD:2379 >/etc/tweed/flannel-agent.env"
    echo "  systemctl daemon-reload && systemctl enable --now flannel-agent service-proxy"
}

# What the programs left in the kernel. Pods lose their network by this. Once: afterwards the programs may be others.
clean_kernel() {
    [ -z "$PREFIX" ] && [ ! -e "$STATE/cleaned" ] || return 0
    if command -v systemctl >/dev/null && [ -d /run/systemd/system ]; then
        systemctl disable --now flannel-agent service-proxy || say "no units to stop"
    fi
    for program in service-proxy flannel-agent; do
        # One that an installation was broken off before has made nothing.
        [ ! -x "/usr/local/bin/$program" ] || "/usr/local/bin/$program" --cleanup
    done
    touch "$STATE/cleaned"
}

# Removes what the plugins have kept of pods that are gone by now.
clean_reservations() {
    for file in "$PREFIX$RESERVATIONS"/lock "$PREFIX$RESERVATIONS"/last_reserved_ip.*; do
        if [ -f "$file" ] && grep -qxF "$RESERVATIONS" "$STATE/kept"; then rm "$file"; fi
    done
    # Their own index of that; a missing one is made anew.
    rm -rf "$PREFIX/var/lib/cni/networks/.tweed"
    while read -r path; do
        [ -d "$PREFIX$path" ] || continue
        if rmdir "$PREFIX$path" 2>/dev/null; then say "removed $path"; else say "$path is in use and stays"; fi
    done <"$STATE/kept"
}

uninstall_all() {
    [ -e "$STATE/files" ] || fail "nothing is installed: there is no $STATE/files"
    if [ "$1" != --keep-kernel ]; then
        clean_kernel
        clean_reservations
    fi
    while read -r path; do
        rm -f "$PREFIX$path.tweed-new"
        if exists "$STATE/replaced$path"; then
            # What is kept stays until all is done: the next run could not tell it from what was new.
            copy "$STATE/replaced$path" "$PREFIX$path"
            say "put $path back"
        else
            rm -f "$PREFIX$path"
            say "removed $path"
        fi
    done <"$STATE/files"
    # The deepest first; one that somebody else uses by now stays.
    sort -r "$STATE/directories" | while read -r path; do
        [ -d "$PREFIX$path" ] || continue
        if rmdir "$PREFIX$path" 2>/dev/null; then say "removed $path"; else say "$path is in use and stays"; fi
    done
    # From here on nothing is installed.
    rm "$STATE/files"
    rm -rf "$STATE"
    rmdir "$PREFIX/var/lib/tweed" || say "/var/lib/tweed is in use and stays"
    say "done"
}

case "$*" in
--help | -h) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" ;;
--uninstall | '--uninstall --keep-kernel') uninstall_all "${2:-}" ;;
'' | -*) fail "$usage" ;;
*)
    [ $# -eq 1 ] || fail "$* is not one directory; $usage"
    install_all "$1"
    ;;
esac
