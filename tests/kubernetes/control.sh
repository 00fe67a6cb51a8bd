# shellcheck shell=bash disable=SC2154
# What runs on the machine of the control plane; machine.sh reads this.
keys=$cluster/keys
pods=10.244.0.0/16,fd00:10:244::/56
services=10.96.0.0/16,fd00:10:96::/112

# Where much else runs, kubelets may be late by more than a minute; their pods are not to be given up for it.
# The agents of the overlay etcd use it as well.
run etcd etcd --data-dir "$state/etcd" --unsafe-no-fsync \
    --listen-client-urls="http://127.0.0.1:2379,http://$address4:2379" --advertise-client-urls="http://$address4:2379" &
run kube-apiserver "$programs/kube-apiserver" \
    --etcd-servers=http://127.0.0.1:2379 \
    --advertise-address="$address4" \
    --tls-cert-file="$keys/server.crt" --tls-private-key-file="$keys/server.key" \
    --client-ca-file="$keys/ca.crt" \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged \
    --service-account-issuer=https://kubernetes.default.svc \
    --service-account-key-file="$keys/accounts.pub" --service-account-signing-key-file="$keys/accounts.key" \
    --service-cluster-ip-range=$services \
    --kubelet-client-certificate="$keys/admin.crt" --kubelet-client-key="$keys/admin.key" \
    --kubelet-preferred-address-types=InternalIP &
run kube-controller-manager "$programs/kube-controller-manager" \
    --kubeconfig="$keys/controller-manager.conf" --leader-elect=false \
    --use-service-account-credentials --service-account-private-key-file="$keys/accounts.key" \
    --root-ca-file="$keys/ca.crt" \
    --node-monitor-grace-period=10m \
    --allocate-node-cidrs --cluster-cidr=$pods --node-cidr-mask-size-ipv6=64 \
    --service-cluster-ip-range=$services &
run kube-scheduler "$programs/kube-scheduler" --kubeconfig="$keys/scheduler.conf" --leader-elect=false &
