# shellcheck shell=bash disable=SC2154
# What runs on a node; machine.sh reads this. Its own are the ways around what the machine around it may not do: lower
# the score by which the kernel chooses what to kill, and raise the number of open files.
socket=/run/containerd/containerd.sock

cat >/run/containerd.toml <<CONF
version = 2
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "tweed.local/pause:1"
restrict_oom_score_adj = true
CONF
cat >/run/kubelet.yaml <<CONF
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://$socket
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
maxOpenFiles: $(ulimit -Hn)
# So that a changed ConfigMap is seen soon.
syncFrequency: 5s
# The disk of the machine around it may be as full as it likes.
evictionHard: {memory.available: 100Mi}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
authentication:
  x509: {clientCAFile: $cluster/keys/ca.crt}
CONF

run containerd containerd --config /run/containerd.toml &
until ctr --address $socket version >/dev/null 2>&1; do sleep 0.2; done
for image in "$cluster"/images/*.tar; do
    ctr --address $socket --namespace k8s.io images import "$image"
done >"$state/images.log" 2>&1
run kubelet "$programs/kubelet" --config /run/kubelet.yaml --kubeconfig "$cluster/keys/$name.conf" \
    --hostname-override "$name" --node-ip "$address4,$address6" \
    --node-labels "topology.kubernetes.io/zone=zone-$name" &
