#!/bin/sh
# Checks of a running cluster: pods across nodes, Services of every type. Knows nothing of kind; the tests of the lab
# run it as well (tests/tests/manifests/cluster.rs).
#
#   checks.sh all         everything, once
#   checks.sh go-on FILE  requests and pings from client1 until FILE is there; the first that fails ends it
#   checks.sh gone NODE   whether nothing of the programs is left in a node's kernel
#   checks.sh soon CHECK...  one of the others, in half a minute at the latest
#   checks.sh both-answer | one-answers | nobody-answers pod|node NAME ADDRESS [WHO]   one check of others
#
# The environment says where it is:
#   RUN                   a program: RUN pod NAME COMMAND..., RUN node NAME COMMAND...
#   NODE1, NODE2, NODE1_IP, NODE2_IP
#   WEB1_IP, WEB2_IP      pods web1 on NODE1 and web2 on NODE2, which answer HTTP at port 80 with their names
#   CLIENT1_IP, CLIENT2_IP  pods client1 on NODE1 and client2 on NODE2
#   GET                   what prints the page of a URL in a pod, if not busybox's wget
set -eu

CLUSTER_IP=10.96.200.1
STICKY=10.96.200.2
LOCAL=10.96.200.3
EMPTY=10.96.200.4
BALANCER=192.0.2.10
EXTERNAL=192.0.2.20

fail() {
    echo "FAILED: $*" >&2
    exit 1
}
ok() { echo "ok      $*"; }

# ask pod|node NAME ADDRESS[:PORT]: who answers.
# shellcheck disable=SC2086 # GET is a command with its arguments
ask() {
    case $1 in
    pod) "$RUN" pod "$2" ${GET:-wget -q -T 3 -O -} "http://$3/" | cut -d ' ' -f 1 ;;
    node) "$RUN" node "$2" curl --silent --max-time 3 "http://$3/" | cut -d ' ' -f 1 ;;
    esac
}

# Whether both pods answer, and nobody else, when asked often enough.
both_answer() {
    seen=
    for _ in $(seq 40); do
        who=$(ask "$@")
        case $who in
        web1 | web2) ;;
        *) fail "$1 $2 asks $3: '$who' answers" ;;
        esac
        case " $seen " in *" $who "*) ;; *) seen="$seen $who" ;; esac
        [ ${#seen} -lt 10 ] || break
    done
    [ ${#seen} -ge 10 ] || fail "$1 $2 asks $3: only$seen answers"
    ok "$1 $2 asks $3: both answer"
}

one_answers() {
    for _ in $(seq 10); do
        who=$(ask "$1" "$2" "$3")
        [ "$who" = "$4" ] || fail "$1 $2 asks $3: '$who' answers instead of $4"
    done
    ok "$1 $2 asks $3: $4 answers"
}

nobody_answers() {
    who=$(ask "$1" "$2" "$3" || true)
    [ -z "$who" ] || fail "$1 $2 asks $3: $who answers, but nobody should"
    ok "$1 $2 asks $3: nobody answers"
}

pings() {
    "$RUN" pod "$1" busybox ping -q -c 2 -W 3 "$2" >/dev/null || fail "pod $1 does not reach $2"
    ok "pod $1 reaches $2"
}

pods() {
    for address in "$WEB1_IP" "$WEB2_IP" "$CLIENT2_IP" "$NODE2_IP"; do pings client1 "$address"; done
    for address in "$WEB1_IP" "$WEB2_IP" "$CLIENT1_IP" "$NODE1_IP"; do pings client2 "$address"; done
    one_answers pod client1 "$WEB2_IP" web2
    one_answers pod client2 "$WEB1_IP" web1
    one_answers node "$NODE1" "$WEB2_IP" web2
}

services() {
    for address in $CLUSTER_IP $BALANCER $EXTERNAL "$NODE1_IP:30080" "$NODE2_IP:30080"; do
        both_answer pod client1 "$address"
        both_answer pod client2 "$address"
        both_answer node "$NODE1" "$address"
        both_answer node "$NODE2" "$address"
    done
    # A pod asks a Service that it is an endpoint of.
    both_answer pod web1 $CLUSTER_IP
    one_answers pod client1 $STICKY "$(ask pod client1 $STICKY)"
    one_answers pod client2 $STICKY "$(ask pod client2 $STICKY)"
    one_answers pod client2 $LOCAL web1
    one_answers node "$NODE2" "$NODE1_IP:30081" web1
    nobody_answers node "$NODE1" "$NODE2_IP:30081"
    nobody_answers pod client1 $EMPTY
    nobody_answers node "$NODE1" $EMPTY
}

go_on() {
    requests=0
    while [ ! -e "$1" ]; do
        who=$(ask pod client1 $CLUSTER_IP)
        [ -n "$who" ] || fail "a request was lost after $requests"
        "$RUN" pod client1 busybox ping -q -c 1 -W 3 "$WEB2_IP" >/dev/null || fail "a ping was lost after $requests"
        requests=$((requests + 1))
    done
    ok "$requests requests and pings, none lost"
}

gone() {
    left=$("$RUN" node "$1" sh -c 'ip -o link show type vxlan | grep flannel
        ip -4 route show proto 84; ip -6 route show proto 84
        nft list tables 2>/dev/null | grep -E "tweed|flannel"
        { iptables-save; ip6tables-save; } 2>/dev/null | grep -E "KUBE-SVC|FLANNEL"' || true)
    [ -z "$left" ] || fail "left on $1: $left"
    ok "nothing is left on $1"
}

# The proxies follow the controllers, who need a while.
soon() {
    for _ in $(seq 30); do
        ! "$0" "$@" >/dev/null 2>&1 || break
        sleep 1
    done
    "$0" "$@"
}

case "${1:-}" in
all)
    pods
    services
    ;;
go-on) go_on "$2" ;;
gone) gone "$2" ;;
both-answer) both_answer "$2" "$3" "$4" ;;
one-answers) one_answers "$2" "$3" "$4" "$5" ;;
nobody-answers) nobody_answers "$2" "$3" "$4" ;;
soon)
    shift
    soon "$@"
    ;;
*) fail "usage: checks.sh all | go-on FILE | gone NODE | [soon] CHECK pod|node NAME ADDRESS [WHO]" ;;
esac
