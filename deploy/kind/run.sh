#!/usr/bin/env bash
# Builds the image, makes a kind cluster that has nothing but Tweed for pods and Services, runs the end-to-end checks,
# restarts everything under traffic, removes it, and deletes the cluster. Needs kind, kubectl, docker, and what
# deploy/image/build.sh needs.
#
#   OVERLAY=proxy-iptables deploy/kind/run.sh   another overlay than kube
#   IMAGE_BUILT=1 deploy/kind/run.sh            goes by target/image/tweed.tar as it is
#   KEEP=1 deploy/kind/run.sh                   leaves the cluster, with everything in it
set -euo pipefail
cd "$(dirname "$0")/../.."

overlay=deploy/manifests/overlays/${OVERLAY:-kube}
cluster=tweed
here=deploy/kind
export NODE1=$cluster-control-plane NODE2=$cluster-worker RUN=$PWD/$here/in-kind.sh
work=$(mktemp -d)
cleanup() {
    status=$?
    if [ $status -ne 0 ]; then
        kubectl get pods -A -o wide || true
        kubectl -n kube-flannel logs daemonset/kube-flannel-ds --all-containers --tail=50 || true
        kubectl -n kube-system logs daemonset/kube-proxy --all-containers --tail=50 || true
    fi
    rm -rf "$work"
    [ -n "${KEEP:-}" ] || kind delete cluster --name $cluster
}
trap cleanup EXIT

step() { echo "==> $*"; }

if [ -z "${IMAGE_BUILT:-}" ]; then
    step "Building the image"
    deploy/image/build.sh
fi
step "Making the cluster"
kind create cluster --name $cluster --config $here/cluster.yaml
kind load image-archive --name $cluster target/image/tweed.tar

step "Installing $overlay"
# Nobody serves the API server's cluster IP before the proxy runs.
server=$(docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' $NODE1)
kubectl create namespace kube-flannel
for namespace in kube-flannel kube-system; do
    kubectl -n $namespace create configmap kubernetes-services-endpoint \
        --from-literal=KUBERNETES_SERVICE_HOST="$server" --from-literal=KUBERNETES_SERVICE_PORT=6443
done
kubectl kustomize "$overlay" >"$work/manifests.yaml"
kubectl apply -f "$work/manifests.yaml"
wait_for_daemons() {
    kubectl -n kube-flannel rollout status daemonset/kube-flannel-ds --timeout=3m
    kubectl -n kube-system rollout status daemonset/kube-proxy --timeout=3m
}
wait_for_daemons
kubectl wait node --all --for=condition=Ready --timeout=3m

step "Making pods and Services"
sed "s/NODE1/$NODE1/; s/NODE2/$NODE2/" $here/pods.yaml | kubectl apply -f -
kubectl apply -f $here/services.yaml
kubectl patch service web --subresource=status --type=merge \
    -p '{"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.10"}]}}}'
kubectl wait pod --all --for=condition=Ready --timeout=3m
pod_ip() { kubectl get pod "$1" -o jsonpath='{.status.podIP}'; }
node_ip() { kubectl get node "$1" -o jsonpath='{.status.addresses[?(@.type=="InternalIP")].address}'; }
NODE1_IP=$(node_ip $NODE1)
NODE2_IP=$(node_ip $NODE2)
WEB1_IP=$(pod_ip web1)
WEB2_IP=$(pod_ip web2)
CLIENT1_IP=$(pod_ip client1)
CLIENT2_IP=$(pod_ip client2)
export NODE1_IP NODE2_IP WEB1_IP WEB2_IP CLIENT1_IP CLIENT2_IP
for _ in $(seq 60); do
    [ "$(kubectl get endpointslices -l kubernetes.io/service-name=web -o jsonpath='{.items[*].endpoints[*].addresses[0]}' | wc -w)" = 2 ] && break
    sleep 1
done

step "Checking"
$here/checks.sh all
step "Restarting everything under traffic"
$here/checks.sh go-on "$work/stop" &
traffic=$!
kubectl -n kube-flannel rollout restart daemonset/kube-flannel-ds
kubectl -n kube-system rollout restart daemonset/kube-proxy
wait_for_daemons
touch "$work/stop"
wait $traffic
$here/checks.sh all

step "Removing"
kubectl delete -f $here/services.yaml
sed "s/NODE1/$NODE1/; s/NODE2/$NODE2/" $here/pods.yaml | kubectl delete -f -
kubectl delete -f "$work/manifests.yaml"
binaries=target/$(rustc -vV | sed -n 's/^host: //p')/dist
for node in $NODE1 $NODE2; do
    for program in service-proxy flannel-agent; do
        docker cp "$binaries/$program" "$node:/usr/local/bin/"
        # As the image has it: the agent's pod has gone, its files have not.
        docker exec "$node" "$program" --cleanup
    done
    $here/checks.sh gone "$node"
done
step "All is well"
