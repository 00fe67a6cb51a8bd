#!/usr/bin/env bash
# What happens in the life of a cluster and comes from its own controllers: ALSO of deploy/kind/end-to-end.sh, in the
# cluster of cluster.sh.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
work=$(mktemp -d)
cleanup() {
    rm -f /run/tweed-kubernetes/control/*.hold
    touch "$work/stop"
    wait
    rm -rf "$work"
}
trap cleanup EXIT

step() { echo "--> $*"; }
fail() {
    echo "FAILED: $*" >&2
    exit 1
}
check() { deploy/kind/checks.sh "$@"; }
soon() { check soon "$@"; }
api() { until kubectl get --raw /readyz >/dev/null 2>&1; do sleep 0.2; done; }

# service NAME ADDRESS FIELDS SELECTOR
service() {
    kubectl apply -f - <<YAML
apiVersion: v1
kind: Service
metadata: {name: $1}
spec: {clusterIP: "$2", $3, selector: $4, ports: [{port: 80}]}
YAML
}

step "Two pods make a Service, and its zone is preferred"
service near 10.96.200.6 'trafficDistribution: PreferSameZone' '{app: web}'
soon one-answers pod client1 10.96.200.6 web1
soon one-answers pod client2 10.96.200.6 web2
service inside 10.96.200.7 'internalTrafficPolicy: Local' '{app: web}'
soon one-answers pod client1 10.96.200.7 web1
soon one-answers pod client2 10.96.200.7 web2

step "The last pod goes, and answers to its end"
sed "s/NODE1/$NODE1/; s/NODE2/$NODE2/; s/\bweb2/last2/g; s/app: web/app: last/; s/PeriodSeconds: 0/PeriodSeconds: 25/" \
    deploy/kind/pods.yaml >"$work/pods.yaml"
kubectl apply -f "$work/pods.yaml" -l app=last,name=last2
service last 10.96.200.8 'type: ClusterIP' '{name: last2}'
kubectl wait pod last2 --for=condition=Ready --timeout=1m
soon one-answers pod client1 10.96.200.8 last2
kubectl delete pod last2 --wait=false
until [ "$(kubectl get endpointslices -l kubernetes.io/service-name=last \
    -o jsonpath='{.items[0].endpoints[0].conditions.terminating}')" = true ]; do sleep 0.2; done
check one-answers pod client1 10.96.200.8 last2
kubectl wait pod last2 --for=delete --timeout=1m
soon nobody-answers pod client1 10.96.200.8

step "Another range of Services' addresses"
kubectl apply -f - <<'YAML'
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {name: more}
spec: {cidrs: [10.97.0.0/24]}
YAML
kubectl wait servicecidr more --for=condition=Ready --timeout=1m
service more 10.97.0.7 'type: ClusterIP' '{name: web2}'
soon one-answers pod client1 10.97.0.7 web2

step "The API server is away, and comes back without its history"
check go-on "$work/stop" &
traffic=$!
"$here/cluster.sh" hold kube-apiserver
sleep 10
check one-answers pod client2 10.96.200.3 web1
revision=$("$here/cluster.sh" on control env ETCDCTL_API=3 etcdctl get / -w json | jq .header.revision)
"$here/cluster.sh" on control env ETCDCTL_API=3 etcdctl compact "$revision"
"$here/cluster.sh" release kube-apiserver
api
service later 10.96.200.9 'type: ClusterIP' '{name: web2}'
soon one-answers pod client1 10.96.200.9 web2
soon one-answers pod client2 10.96.200.9 web2
kubectl delete service later near inside last more
soon nobody-answers pod client1 10.96.200.9
kubectl delete servicecidr more
touch "$work/stop"
wait $traffic

if kubectl -n kube-system get configmap kube-proxy -o yaml | grep -q 'mode: ipvs'; then
    step "IPVS, or iptables where the kernel has none, and a word about it"
    for node in "$NODE1" "$NODE2"; do
        mode=$("$here/cluster.sh" on "$node" curl --silent http://127.0.0.1:10249/proxyMode)
        pod=$(kubectl -n kube-system get pods -l k8s-app=kube-proxy --field-selector "spec.nodeName=$node" -o name)
        warnings=$(kubectl -n kube-system logs "$pod" -c kube-proxy | grep -c 'falls back to iptables' || true)
        case $mode/$warnings in
        ipvs/0 | iptables/1) echo "ok      $node: $mode, $warnings warnings" ;;
        *) fail "$node: $mode, $warnings warnings" ;;
        esac
        [ "$mode" = ipvs ] || [ ! -e /proc/net/ip_vs ] || fail "$node has IPVS, and not its mode"
    done
fi

if kubectl -n kube-flannel get configmap kube-flannel-cfg -o yaml | grep -q EnableIPv6; then
    deploy/kind/both-families.sh
fi
