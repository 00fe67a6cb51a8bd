#!/usr/bin/env bash
# Installs an overlay in a running cluster of two nodes as a user does, runs the checks, restarts everything under
# traffic, and removes it again. Knows nothing of kind; the tests run it in a cluster of their own as well
# (tests/kubernetes/run.sh). The nodes have the image, and a busybox.
#
#   end-to-end.sh OVERLAY SERVER BINARIES
#
# SERVER is the API server's address, BINARIES has the programs. The environment says where it is:
#   RUN                   a program: RUN pod NAME COMMAND..., RUN node NAME COMMAND..., RUN copy NODE FILE DIRECTORY
#   NODE1, NODE2          the nodes' names
#   ALSO                  programs that check more while everything stands, if it is set
#   ETCD                  for the overlay etcd: the URL of one that has the network configuration
set -euo pipefail
overlay=$1 server=$2 binaries=$3
here=$(dirname "$0")
work=$(mktemp -d)
cleanup() {
    status=$?
    if [ $status -ne 0 ]; then
        kubectl get pods -A -o wide || true
        kubectl -n kube-flannel logs daemonset/kube-flannel-ds --all-containers --tail=50 || true
        kubectl -n kube-system logs daemonset/kube-proxy --all-containers --tail=50 || true
    fi
    # Ends the traffic, if it still goes on.
    touch "$work/stop"
    wait
    rm -rf "$work"
}
trap cleanup EXIT

step() { echo "==> $*"; }

step "Installing $overlay"
# Nobody serves the API server's cluster IP before the proxy runs.
kubectl create namespace kube-flannel
for namespace in kube-flannel kube-system; do
    kubectl -n $namespace create configmap kubernetes-services-endpoint \
        --from-literal=KUBERNETES_SERVICE_HOST="$server" --from-literal=KUBERNETES_SERVICE_PORT=6443
done
kubectl kustomize "$overlay" | sed "s|http://127.0.0.1:2379|${ETCD:-&}|" >"$work/manifests.yaml"
kubectl apply -f "$work/manifests.yaml"
wait_for_daemons() {
    kubectl -n kube-flannel rollout status daemonset/kube-flannel-ds --timeout=3m
    kubectl -n kube-system rollout status daemonset/kube-proxy --timeout=3m
}
wait_for_daemons
kubectl wait node --all --for=condition=Ready --timeout=3m

step "Making pods and Services"
sed "s/NODE1/$NODE1/; s/NODE2/$NODE2/" "$here/pods.yaml" | kubectl apply -f -
kubectl apply -f "$here/services.yaml"
kubectl patch service web --subresource=status --type=merge \
    -p '{"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.10"}]}}}'
kubectl wait pod --all --for=condition=Ready --timeout=3m
pod_ip() { kubectl get pod "$1" -o jsonpath='{.status.podIP}'; }
# The first: a node of two families has two.
node_ip() { kubectl get node "$1" -o jsonpath='{.status.addresses[?(@.type=="InternalIP")].address}' | cut -d ' ' -f 1; }
NODE1_IP=$(node_ip "$NODE1")
NODE2_IP=$(node_ip "$NODE2")
WEB1_IP=$(pod_ip web1)
WEB2_IP=$(pod_ip web2)
CLIENT1_IP=$(pod_ip client1)
CLIENT2_IP=$(pod_ip client2)
export NODE1_IP NODE2_IP WEB1_IP WEB2_IP CLIENT1_IP CLIENT2_IP
# Those of web, sticky, headless and local.
endpoints() {
    kubectl get endpointslices -l kubernetes.io/service-name!=kubernetes \
        -o jsonpath='{.items[*].endpoints[*].addresses[0]}' | wc -w
}
for _ in $(seq 60); do
    [ "$(endpoints)" != 7 ] || break
    sleep 1
done

step "Checking"
"$here/checks.sh" all
step "Restarting everything under traffic"
"$here/checks.sh" go-on "$work/stop" &
traffic=$!
kubectl -n kube-flannel rollout restart daemonset/kube-flannel-ds
kubectl -n kube-system rollout restart daemonset/kube-proxy
wait_for_daemons
touch "$work/stop"
wait $traffic
"$here/checks.sh" all
for program in ${ALSO:-}; do
    "$program"
done

step "Removing"
kubectl delete -f "$here/services.yaml"
sed "s/NODE1/$NODE1/; s/NODE2/$NODE2/" "$here/pods.yaml" | kubectl delete -f -
kubectl delete -f "$work/manifests.yaml"
kubectl -n kube-system delete configmap kubernetes-services-endpoint
# A proxy that still runs would make anew what is cleaned up.
kubectl -n kube-system wait pod -l k8s-app=kube-proxy --for=delete --timeout=3m
for node in "$NODE1" "$NODE2"; do
    for program in service-proxy flannel-agent; do
        "$RUN" copy "$node" "$binaries/$program" /usr/local/bin
        "$RUN" node "$node" "$program" --cleanup
    done
    "$here/checks.sh" gone "$node"
done
step "All is well"
