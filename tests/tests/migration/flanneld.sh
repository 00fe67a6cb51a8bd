#!/bin/sh
# Does to a node what flanneld does with the vxlan backend and --ip-masq, where there is none: lease, device, entries,
# subnet.env and rules in its formats. A lease and a device that are there and fit are used again. To be ended by a
# signal, which leaves all of it.
set -eu
export ETCDCTL_API=3 ETCDCTL_ENDPOINTS="$FLANNELD_ETCD_ENDPOINTS"
subnets=/coreos.com/network/subnets
network=10.244.0.0/16
device=flannel.1
address=$(ip -4 -o address show eth0 | sed 's/.* inet \([^/]*\).*/\1/')
trap 'exit 0' TERM

leases() { etcdctl get --prefix "$subnets/" | paste - -; }

mac() { ip -o link show $device | sed 's/.*link\/ether \([^ ]*\).*/\1/'; }

if ! ip link show $device >/dev/null 2>&1; then
    ip link add $device mtu 1450 type vxlan id 1 dstport 8472 local "$address" dev eth0 nolearning
fi
# What flanneld compares of a device before it uses it again (MAC, MTU: no).
ip -d link show $device | grep -q "vxlan id 1 local $address dev eth0 .*dstport 8472 nolearning"
own=$(leases | sed -n "s|^$subnets/\([0-9.]*-24\).*\"PublicIP\":\"$address\".*|\1|p")
[ -n "$own" ] || own=10.244.1${address##*.}.0-24
lease=$(etcdctl lease grant 86400 | sed 's/^lease \([^ ]*\).*/\1/')
etcdctl put --lease="$lease" "$subnets/$own" "{\"PublicIP\":\"$address\",\"PublicIPv6\":null,\"BackendType\":\"vxlan\",\"BackendData\":{\"VNI\":1,\"VtepMAC\":\"$(mac)\"}}"
pods=${own%-24}/24
ip address replace "${own%-24}/32" dev $device
ip link set $device up

mkdir -p /run/flannel
cat >/run/flannel/subnet.env.new <<ENV
FLANNEL_NETWORK=$network
FLANNEL_SUBNET=${own%0-24}1/24
FLANNEL_MTU=1450
FLANNEL_IPMASQ=true
ENV
mv /run/flannel/subnet.env.new /run/flannel/subnet.env

iptables-restore --noflush --wait <<RULES
*nat
:FLANNEL-POSTRTG - [0:0]
-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s $pods -d $network -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s $network -d $pods -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG ! -s $network -d $pods -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s $network ! -d 224.0.0.0/4 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
-A FLANNEL-POSTRTG ! -s $network -d $network -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
COMMIT
*filter
:FLANNEL-FWD - [0:0]
-A FLANNEL-FWD -s $network -m comment --comment "flanneld forward" -j ACCEPT
-A FLANNEL-FWD -d $network -m comment --comment "flanneld forward" -j ACCEPT
COMMIT
RULES
jump() {
    iptables -w -t "$1" -C "$2" -m comment --comment "$3" -j "$4" 2>/dev/null ||
        iptables -w -t "$1" -A "$2" -m comment --comment "$3" -j "$4"
}
jump nat POSTROUTING "flanneld masq" FLANNEL-POSTRTG
jump filter FORWARD "flanneld forward" FLANNEL-FWD

while :; do
    leases | grep -v "\"$address\"" | sed 's|.*/\([0-9.]*\)-24.*"PublicIP":"\([^"]*\)".*"VtepMAC":"\([^"]*\)".*|\1 \2 \3|' |
        while read -r subnet node vtep; do
            ip neigh replace "$subnet" lladdr "$vtep" dev $device nud permanent
            bridge fdb replace "$vtep" dev $device dst "$node" self permanent
            ip route replace "$subnet/24" via "$subnet" dev $device onlink
        done
    sleep 0.2
done
