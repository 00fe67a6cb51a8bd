#!/usr/bin/env bash
# What goes wrong in a cluster and must not take its network along: ALSO of deploy/kind/end-to-end.sh, in the cluster of
# cluster.sh.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
work=$(mktemp -d)
cleanup() {
    touch "$work/stop"
    wait
    rm -rf "$work"
}
trap cleanup EXIT

step() { echo "--> $*"; }
check() { deploy/kind/checks.sh "$@"; }
fail() {
    echo "FAILED: $*" >&2
    exit 1
}
agents() { kubectl -n kube-flannel "$@"; }
proxies() { kubectl -n kube-system "$@"; }
rolled_out() {
    agents rollout status daemonset/kube-flannel-ds --timeout=3m
    proxies rollout status daemonset/kube-proxy --timeout=3m
}

# until_says WORDS COMMAND...: what the command prints has the words, or will have them.
until_says() {
    for _ in $(seq 120); do
        "${@:2}" >"$work/said" 2>&1 || true
        if grep -qF -- "$1" "$work/said"; then
            echo "ok      $(grep -m 1 -F -- "$1" "$work/said" | cut -c 1-200)"
            return
        fi
        sleep 1
    done
    fail "$(cat "$work/said") does not say: $1"
}

# traffic COMMAND...: while which no request and no ping is lost.
traffic() {
    local going
    rm -f "$work/stop"
    check go-on "$work/stop" &
    going=$!
    "$@"
    touch "$work/stop"
    wait $going
}

# configure NAMESPACE NAME KEY TEXT
configure() {
    kubectl -n "$1" patch configmap "$2" --type=merge -p "$(jq -n --arg key "$3" --arg text "$4" '{data: {($key): $text}}')"
}

# refused NAMESPACE DAEMONSET WORDS: a daemon that is started anew does not get far, and whoever looks is told why.
refused() {
    kubectl -n "$1" rollout restart "daemonset/$2"
    until_says CrashLoopBackOff kubectl -n "$1" get pods
    until_says "$3" kubectl -n "$1" describe pods
    [ "$(kubectl -n "$1" get daemonset "$2" -o jsonpath='{.status.numberUnavailable}')" = 1 ] ||
        fail "more than one of $2 was ended"
}

# A new revision replaces first what does not run.
mended() {
    kubectl -n "$1" rollout restart "daemonset/$2"
    kubectl -n "$1" rollout status "daemonset/$2" --timeout=3m
}

deleted_while_restarted() {
    agents rollout restart daemonset/kube-flannel-ds
    proxies rollout restart daemonset/kube-proxy
    for _ in 1 2 3; do
        agents delete pod -l app=flannel --wait=false
        proxies delete pod -l k8s-app=kube-proxy --wait=false
        sleep 2
    done
    rolled_out
}

bad_net_conf() {
    local text
    text=$(agents get configmap kube-flannel-cfg -o jsonpath='{.data.net-conf\.json}')
    configure kube-flannel kube-flannel-cfg net-conf.json "${text//vxlan/vxlam}"
    refused kube-flannel kube-flannel-ds 'vxlam'
    check all
    configure kube-flannel kube-flannel-cfg net-conf.json "$text"
    mended kube-flannel kube-flannel-ds
}

bad_proxy_configuration() {
    local text
    text=$(proxies get configmap kube-proxy -o jsonpath='{.data.config\.conf}')
    configure kube-system kube-proxy config.conf "${text/mode: /mode: not-}"
    # One that runs goes on by what it had.
    until_says 'mode: "not-' proxies logs -l k8s-app=kube-proxy -c kube-proxy --prefix
    check all
    refused kube-system kube-proxy 'mode: "not-'
    check all
    configure kube-system kube-proxy config.conf "$text"
    mended kube-system kube-proxy
}

# image NAME: of all containers.
image() {
    agents set image daemonset/kube-flannel-ds "*=tweed.local/$1"
    proxies set image daemonset/kube-proxy "*=tweed.local/$1"
}

undone() {
    agents rollout undo daemonset/kube-flannel-ds
    proxies rollout undo daemonset/kube-proxy
    rolled_out
}

no_image() {
    image none:1
    until_says Image agents get pods
    until_says Image proxies get pods
    check all
    undone
}

older_image() {
    image tweed:older
    rolled_out
    check all
    undone
}

# restarts POD
restarts() { kubectl get pod "$1" -o jsonpath='{.status.containerStatuses[0].restartCount}'; }

step "Pods are deleted in the middle of a restart"
traffic deleted_while_restarted
check all

step "A network configuration that is none"
traffic bad_net_conf
step "A configuration of the proxy that is none"
traffic bad_proxy_configuration
step "An image that is none, and back"
traffic no_image
if [ -n "${OLDER:-}" ]; then
    step "The image of an older release, and back"
    traffic older_image
fi
check all

step "A node loses its power"
before=$(restarts web2)
"$here/cluster.sh" reboot "$NODE2"
check one-answers pod client1 10.96.200.3 web1
for pod in web2 client2; do
    until [ "$(restarts $pod)" -gt "$before" ]; do sleep 1; done
    kubectl wait pod $pod --for=condition=Ready --timeout=3m
done
rolled_out
WEB2_IP=$(kubectl get pod web2 -o jsonpath='{.status.podIP}')
CLIENT2_IP=$(kubectl get pod client2 -o jsonpath='{.status.podIP}')
export WEB2_IP CLIENT2_IP
for _ in $(seq 60); do
    ! check all >"$work/said" 2>&1 || break
    sleep 1
done
check all
