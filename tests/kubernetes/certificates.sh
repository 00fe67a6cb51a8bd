#!/usr/bin/env bash
# Writes the keys, certificates and kubeconfigs of a cluster, under the names and groups that Kubernetes' own roles are
# bound to.
#
#   certificates.sh DIRECTORY SERVER_ADDRESS NODE...
set -euo pipefail
cd "$1"
server=$2
shift 2

# sign NAME SUBJECT [EXTENSION]: NAME.key and NAME.crt, signed by the cluster.
sign() {
    openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"
    openssl req -new -key "$1.key" -subj "$2" |
        openssl x509 -req -CA ca.crt -CAkey ca.key -days 2 -out "$1.crt" -extfile <(
            echo "extendedKeyUsage = serverAuth, clientAuth"
            echo "${3:-}"
        )
}

# kubeconfig NAME: for who NAME.crt says.
kubeconfig() {
    cat >"$1.conf" <<CONF
apiVersion: v1
kind: Config
current-context: lab
contexts: [{name: lab, context: {cluster: lab, user: "$1"}}]
clusters: [{name: lab, cluster: {server: "https://$server:6443", certificate-authority: $PWD/ca.crt}}]
users: [{name: "$1", user: {client-certificate: $PWD/$1.crt, client-key: $PWD/$1.key}}]
CONF
}

{
    openssl ecparam -name prime256v1 -genkey -noout -out ca.key
    openssl req -x509 -new -key ca.key -subj /CN=lab -days 2 -out ca.crt
    # Service accounts' tokens are signed with it.
    openssl genrsa -out accounts.key 2048
    openssl rsa -in accounts.key -pubout -out accounts.pub
    sign server /CN=kube-apiserver \
        "subjectAltName = IP:$server, IP:127.0.0.1, IP:10.96.0.1, DNS:kubernetes, DNS:kubernetes.default.svc"
    sign admin /O=system:masters/CN=admin
    sign controller-manager /CN=system:kube-controller-manager
    sign scheduler /CN=system:kube-scheduler
    for node; do
        sign "$node" "/O=system:nodes/CN=system:node:$node"
    done
} 2>log || { cat log >&2; exit 1; }
for user in admin controller-manager scheduler "$@"; do
    kubeconfig "$user"
done
