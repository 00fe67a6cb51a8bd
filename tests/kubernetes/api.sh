#!/usr/bin/env bash
# What a real API server says of an overlay, before anything of it runs: whether each object is one that it would take,
# to the last field, and whether the daemons may do what they do, and nothing else. Runs where kubectl is an
# administrator of a cluster without Tweed.
#
#   api.sh OVERLAY
set -euo pipefail
overlay=deploy/manifests/overlays/$1

fail() {
    echo "FAILED: $*" >&2
    exit 1
}
ok() { echo "ok      $*"; }

until kubectl get --raw /readyz >/dev/null 2>&1; do sleep 0.2; done
objects=$(kubectl kustomize "$overlay")

# An object in a namespace that is not there can't be tried.
kubectl create namespace kube-flannel >/dev/null
said=$(kubectl apply --dry-run=server --validate=strict -f - <<<"$objects" 2>&1) || fail "$overlay: $said"
[ "$(grep -c 'server dry run' <<<"$said")" = 11 ] || fail "$overlay: $said"
! grep -i warning <<<"$said" | grep -v last-applied-configuration || fail "$overlay: the API server warns"
ok "$overlay would be taken as it is"

kubectl apply -f deploy/manifests/agent/rbac.yaml -f deploy/manifests/proxy/rbac.yaml >/dev/null
# rights NAMESPACE:ACCOUNT: resources and verbs, without what everybody may.
rights() {
    kubectl auth can-i --list --no-headers --namespace "${1%:*}" --as="system:serviceaccount:$1" |
        sed -E '/^selfsubject|^ /d; s/ +/ /g; s/ *$//' | sort
}
agent=$(rights kube-flannel:flannel)
[ "$agent" = 'nodes [] [] [get list watch]
nodes/status [] [] [patch]' ] || fail "the agent has the rights $agent"
proxy=$(rights kube-system:kube-proxy)
[ "$proxy" = 'endpointslices.discovery.k8s.io [] [] [list watch]
events.events.k8s.io [] [] [create]
nodes [] [] [list watch]
servicecidrs.networking.k8s.io [] [] [list watch]
services [] [] [list watch]' ] || fail "the proxy has the rights $proxy"
ok "the daemons have the rights that they need, and no others"

kubectl delete -f deploy/manifests/agent/rbac.yaml -f deploy/manifests/proxy/rbac.yaml >/dev/null
kubectl delete namespace kube-flannel >/dev/null
