#!/bin/sh
# Finds Debian's kernel, installing it and what boots it where they are missing, and prints the path of its image.
# Where that can't be had it says why, and fails.
#
# The kernel is unpacked into target/debian-kernel, if there is none in /boot: the machine's own boot files stay as
# they are, and no initial RAM disk is made for it.
set -eu
cd "$(dirname "$0")/../.."
here=target/debian-kernel

# The newest kernel in a directory that can see this machine's files (9p; the cloud flavour can't) and has IPVS.
find_kernel() {
    for image in $(printf '%s\n' "$1"/boot/vmlinuz-*-amd64 | sort -Vr); do
        modules=$1/lib/modules/${image##*/vmlinuz-}
        if [ -e "$modules/modules.dep" ] && [ -e "$modules/kernel/fs/9p/9p.ko" ] &&
            [ -e "$modules/kernel/net/netfilter/ipvs/ip_vs.ko" ]; then
            echo "$image"
            return
        fi
    done
    return 1
}

# Runs something and keeps quiet about it unless it fails.
quietly() {
    "$@" >"$log" 2>&1 && return
    tail -n 5 "$log" >&2
    echo "failed: $*" >&2
    exit 1
}

if [ "$(uname -m)" != x86_64 ]; then
    echo "Debian's kernel for amd64 can't run the programs of $(uname -m)" >&2
    exit 1
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive

packages="qemu-system-x86 kmod cpio busybox-static"
missing=
for package in $packages; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' ||
        missing="$missing $package"
done
if [ -n "$missing" ]; then
    echo "Installing:$missing" >&2
    quietly apt-get update
    # shellcheck disable=SC2086 # one word a package
    quietly apt-get install -y --no-install-recommends $missing
fi

find_kernel "" || find_kernel "$PWD/$here" && exit
quietly apt-get update
package=$(apt-cache depends linux-image-amd64 2>"$log" | sed -n 's/ *Depends: \(linux-image-.*-amd64\)$/\1/p')
if [ -z "$package" ]; then
    echo "this distribution has no linux-image-amd64" >&2
    exit 1
fi
echo "Unpacking $package into $here" >&2
mkdir -p "$here"
(cd "$here" && quietly apt-get download "$package")
quietly dpkg-deb -x "$here"/*.deb "$here"
rm "$here"/*.deb
quietly depmod -b "$PWD/$here" "${package#linux-image-}"
find_kernel "$PWD/$here"
