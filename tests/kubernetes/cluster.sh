#!/usr/bin/env bash
# A Kubernetes cluster on this machine, of the real programs: a machine for the control plane and two nodes, each in
# namespaces and cgroups of its own, connected by a bridge of the first. Nothing is made in this machine's own network.
#
#   TWEED_KUBERNETES=PROGRAMS cluster.sh up IMAGE...   PROGRAMS has kube-apiserver, kube-controller-manager,
#                                      kube-scheduler and kubelet; archives of IMAGE are imported on each node
#   cluster.sh down                    takes it down, also what is left of one
#   cluster.sh on NAME COMMAND...      runs a command on control, node1 or node2
#   cluster.sh admin COMMAND...        runs a command of this machine in the control plane's network, where kubectl is
#                                      the cluster's administrator
#   cluster.sh hold PROGRAM            ends a program of the control plane until it is released
#   cluster.sh release PROGRAM
#   cluster.sh reboot NODE             ends all that runs on a node at once, as a power failure does, and starts it anew
#                                      with what was on its disk
#
# Needs root, etcd, containerd, runc and cgroups of version 1 (as well as cgroups of version 2, that is the hybrid kind);
# where Docker runs, deploy/kind/run.sh needs less.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
cluster=/run/tweed-kubernetes
cgroup=tweed-kubernetes

fail() {
    echo "cluster.sh: $*" >&2
    exit 1
}

# Where the machines' cgroups are, one for each controller.
hierarchies() {
    for directory in /sys/fs/cgroup/*/; do
        [ ! -e "$directory/cgroup.procs" ] || [ -e "$directory/cgroup.controllers" ] || echo "${directory%/}"
    done
}

# The first process of a machine.
first() { cat "$cluster/$1/pid"; }

# enter NAME COMMAND...: in its namespaces but the one of cgroups, of which nobody who enters is a member.
enter() {
    local pid
    pid=$(first "$1")
    shift
    nsenter --target "$pid" --mount --uts --ipc --net --pid --root --wd -- "$@"
}

# machine NAME ROLE ADDRESS4 ADDRESS6
machine() {
    local hierarchy unshare
    mkdir -p "$cluster/$1/root"
    for hierarchy in $(hierarchies); do
        mkdir -p "$hierarchy/$cgroup/$1"
        # A cgroup of CPUs begins with none.
        if [ "${hierarchy##*/}" = cpuset ]; then
            for file in cpuset.cpus cpuset.mems; do
                cat "$hierarchy/$file" >"$hierarchy/$cgroup/$file"
                cat "$hierarchy/$file" >"$hierarchy/$cgroup/$1/$file"
            done
        fi
    done
    (
        for hierarchy in $(hierarchies); do
            echo $BASHPID >"$hierarchy/$cgroup/$1/cgroup.procs"
        done
        exec setsid unshare --mount --uts --ipc --net --cgroup --pid --fork \
            "$here/machine.sh" "$cluster" "$(realpath $cluster/programs)" "$@" </dev/null >"$cluster/$1/log" 2>&1
    ) &
    unshare=$!
    until [ -e "$cluster/$1/ready" ]; do
        kill -0 $unshare 2>/dev/null || fail "$1 did not start: $(cat "$cluster/$1/log")"
        sleep 0.1
    done
    tr -d ' ' <"/proc/$unshare/task/$unshare/children" >"$cluster/$1/pid"
}

# node NUMBER
node() {
    machine "node$1" node "10.8.65.1$1" "fd00:8:65::1$1"
    ip link add eth0 netns "$(first "node$1")" type veth peer name "node$1" netns "$(first control)"
    enter control ip link set "node$1" master eth0 up
}

up() {
    local program programs image
    programs=$(realpath "${TWEED_KUBERNETES:?names the directory of Kubernetes\' programs}")
    for program in kube-apiserver kube-controller-manager kube-scheduler kubelet; do
        [ -x "$programs/$program" ] || fail "no $program in $programs"
    done
    [ -e /sys/fs/cgroup/cpu/cgroup.procs ] || fail "no cgroups of version 1 here"
    [ ! -e $cluster ] || fail "there is one already: $0 down"
    mkdir -p $cluster/keys $cluster/images
    ln -s "$programs" $cluster/programs
    for image; do
        [ -f "$image" ] || fail "no image $image"
        cp "$image" $cluster/images/
    done
    "$here/images.sh" $cluster/images/busybox.tar
    "$here/certificates.sh" $cluster/keys 10.8.65.1 node1 node2
    hierarchies | xargs -n 1 basename >$cluster/controllers
    machine control control 10.8.65.1 fd00:8:65::1
    ip link add eth0 netns "$(first control)" type bridge
    node 1
    node 2
}

reboot() {
    local hierarchy
    kill -9 "$(first "$1")"
    # Its end of the link goes with its network, which goes with the last that is in it.
    while enter control ip link show "$1" >/dev/null 2>&1; do sleep 0.1; done
    for hierarchy in $(hierarchies); do
        find "$hierarchy/$cgroup/$1" -mindepth 1 -depth -type d -exec rmdir {} +
    done
    rm "$cluster/$1/ready"
    node "${1#node}"
}

down() {
    local hierarchy left
    for _ in $(seq 100); do
        left=$(hierarchies | while read -r hierarchy; do
            find "$hierarchy/$cgroup" -name cgroup.procs -exec cat {} + 2>/dev/null || true
        done | sort -u)
        [ -n "$left" ] || break
        # shellcheck disable=SC2086 # words
        kill -9 $left 2>/dev/null || true
        sleep 0.1
    done
    [ -z "$left" ] || fail "processes do not end: $left"
    for hierarchy in $(hierarchies); do
        [ ! -d "$hierarchy/$cgroup" ] || find "$hierarchy/$cgroup" -depth -type d -exec rmdir {} +
    done
    rm -rf $cluster
}

verb=${1:-}
shift || true
case $verb in
up) up "$@" ;;
down) down ;;
on) enter "$@" ;;
admin) KUBECONFIG=$cluster/keys/admin.conf exec nsenter --target "$(first control)" --net -- "$@" ;;
hold)
    touch "$cluster/control/$1.hold"
    enter control kill -9 "$(cat "$cluster/control/$1.pid")"
    ;;
release) rm "$cluster/control/$1.hold" ;;
reboot) reboot "$1" ;;
*) fail "usage: cluster.sh up IMAGE... | down | on NAME COMMAND... | admin COMMAND... | hold PROGRAM | release PROGRAM |" \
    "reboot NODE" ;;
esac
