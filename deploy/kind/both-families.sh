#!/usr/bin/env bash
# A Service of both families at the addresses that the cluster gives it: ALSO of end-to-end.sh in a cluster of two families.
set -euo pipefail
here=$(dirname "$0")
check() { "$here/checks.sh" soon both-answer "$@"; }

echo "--> Both families"
kubectl apply -f - <<'YAML'
apiVersion: v1
kind: Service
metadata: {name: both}
spec: {ipFamilyPolicy: RequireDualStack, selector: {app: web}, ports: [{port: 80}]}
YAML
for address in $(kubectl get service both -o jsonpath='{.spec.clusterIPs[*]}'); do
    case $address in *:*) address="[$address]" ;; esac
    for pod in client1 client2; do check pod $pod "$address"; done
    for node in "$NODE1" "$NODE2"; do check node "$node" "$address"; done
done
kubectl delete service both
