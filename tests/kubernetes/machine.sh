#!/usr/bin/env bash
# The first process of a machine of the cluster, in namespaces of its own for everything: gives it a file system, sysctls
# and cgroups that nobody else sees, waits for its network, and runs its programs until it is killed, which ends all
# that runs on it. cluster.sh starts it.
#
#   machine.sh CLUSTER PROGRAMS NAME ROLE ADDRESS4 ADDRESS6
#
# CLUSTER (the cluster's state, on a real file system) and PROGRAMS (Kubernetes') are seen at the same place inside.
# ROLE.sh beside this starts the programs.
set -euo pipefail
cluster=$1 programs=$2 name=$3 role=$4 address4=$5 address6=$6
here=$(dirname "$(realpath "$0")")
state=$cluster/$name

# All of the machine around it can be read, and what is written goes to memory, but for what outlives a reboot.
file_system() {
    mount -t tmpfs machine "$state/root"
    cd "$state/root"
    mkdir upper work root
    mount -t overlay machine -o lowerdir=/,upperdir=upper,workdir=work root
    mount --rbind /dev root/dev
    mount -t proc proc root/proc
    mount -t sysfs sysfs root/sys
    mount -t tmpfs run root/run
    mount -t tmpfs tmp root/tmp
    for shared in "$cluster" "$programs" "$here"; do
        mkdir -p "root$shared"
        mount --bind "$shared" "root$shared"
    done
    rm -rf root/etc/cni root/opt/cni root/var/lib/cni root/etc/kubernetes
    # What outlives a reboot; and pods' own overlays can't lie on this one.
    for own in var/lib/containerd var/lib/kubelet var/lib/cni etc/cni opt/cni; do
        mkdir -p "$state/$own" "root/$own"
        mount --bind "$state/$own" "root/$own"
    done
    mkdir root/tmp/old
    cd root
    pivot_root . tmp/old
    umount -l /tmp/old
    rmdir /tmp/old
    # What the kubelet mounts for a pod has to be seen by its container.
    mount --make-rshared /
}

# The part of the cgroups that this process is in, as the whole of them.
cgroups() {
    mount -t tmpfs cgroup /sys/fs/cgroup
    while read -r controller; do
        mkdir "/sys/fs/cgroup/$controller"
        options=$controller
        [ "$controller" != systemd ] || options=none,name=systemd
        mount -t cgroup -o "$options" cgroup "/sys/fs/cgroup/$controller"
    done <"$cluster/controllers"
}

# A kubelet sets these, and they are of the machine around it as well. It finds them as it wants them.
sysctls() {
    mkdir /run/sysctls
    for sysctl in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
        kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
        path=${sysctl%=*}
        echo "${sysctl#*=}" >"/run/sysctls/${path##*/}"
        mount --bind "/run/sysctls/${path##*/}" "/proc/sys/$path"
    done
}

# run NAME COMMAND...: and again whenever it has ended, unless there is a file NAME.hold.
run() {
    program=$1
    shift
    while :; do
        while [ -e "$state/$program.hold" ]; do sleep 0.2; done
        "$@" >>"$state/$program.log" 2>&1 &
        echo $! >"$state/$program.pid"
        wait $! || true
        sleep 0.5
    done
}

file_system
cgroups
sysctls
hostname "$name"
ip link set lo up
touch "$state/ready"
until ip link set eth0 up 2>/dev/null; do sleep 0.1; done
ip address add "$address4/24" dev eth0
ip address add "$address6/64" dev eth0 nodad
# By it the agent finds its interface.
[ "$role" = control ] || ip route add default via 10.8.65.1
# shellcheck source=/dev/null
. "$here/$role.sh"
wait
