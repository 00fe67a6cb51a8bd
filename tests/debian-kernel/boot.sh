#!/bin/sh
# Runs a shell script under Debian's kernel in qemu, on this machine's own files: the script comes on stdin and is run
# by root in the current directory; what it prints comes out as it is printed, and its exit status is this one's.
#
#   tests/debian-kernel/boot.sh <SCRIPT
#
# The machine's files are read-only there, all but /run and $TMPDIR, which are empty and go with it.
#
# VMLINUZ   another kernel than that which install.sh finds; its modules are in ../lib/modules
# CPUS      of the machine, 2
# LIMIT     how long it may take, 30m
# ACCELERATION  what qemu runs the machine with; kvm is not tried by itself, because it does not work wherever
#           there is a /dev/kvm. In emulation, computing takes some ten to twenty times as long.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
kernel=${VMLINUZ:-$("$here/install.sh")}
version=${kernel##*/vmlinuz-}
modules=${kernel%/boot/*}/lib/modules
share=$(mktemp -d)
trap 'rm -rf "$share"' EXIT

# What the kernel needs before it can see the machine's files.
root=$share/initramfs
mkdir -p "$root/bin" "$root/modules"
cp /bin/busybox "$root/bin/busybox"
cp "$here/init" "$root/init"
for module in virtio_pci 9pnet_virtio 9p; do
    modprobe -d "${modules%/lib/modules}/" -S "$version" --show-depends "$module"
done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r file; do
    cp "$file" "$root/modules"
    echo "${file##*/}" >>"$root/modules/order"
done
(cd "$root" && find . | cpio --quiet --create --format newc) >"$share/initrd"
rm -rf "$root"

{
    echo "cd '$PWD' || exit"
    cat
} >"$share/script"
# AVX and the like cost more in emulation than they win, so the processor is a plain one.
timeout --foreground "${LIMIT:-30m}" qemu-system-x86_64 \
    -nodefaults -no-user-config -no-reboot -display none -serial stdio \
    -accel "${ACCELERATION:-tcg,thread=multi}" -cpu qemu64,+rdrand -smp "${CPUS:-2}" -m "${MEMORY:-3G}" \
    -kernel "$kernel" -initrd "$share/initrd" \
    -append "console=ttyS0 quiet panic=-1 mitigations=off nokaslr audit=0 modules=$modules" \
    -virtfs local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap \
    -virtfs "local,path=$share,mount_tag=share,security_model=none" </dev/null
# The exit code of the machine says nothing; what was written does.
exit "$(cat "$share/status")"
