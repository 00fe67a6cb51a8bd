#!/bin/sh
# Makes a pod as the Go plugins flannel, bridge and host-local do, where there are none: bridge, veth pair, address
# file, kept configuration. portmap has nothing to do for the pods of the test. ADD alone.
set -eu
conf=$(cat)
[ "$CNI_COMMAND" = ADD ] || exit 0
if [ "${0##*/}" = portmap ]; then
    # What comes after it depends on the order of the keys.
    echo "$conf" | sed 's/.*"prevResult":\(.*\)}$/\1/; s/,"type":"portmap"$//'
    exit 0
fi
# shellcheck source=/dev/null
. /run/flannel/subnet.env
id=$CNI_CONTAINERID
gateway=${FLANNEL_SUBNET%/24}
reserved=/var/lib/cni/networks/cbr0
mkdir -p $reserved /var/lib/cni/flannel
touch $reserved/lock
number=2
while [ -e "$reserved/${gateway%1}$number" ]; do number=$((number + 1)); done
address=${gateway%1}$number
printf '%s\r\neth0' "$id" >"$reserved/$address"
printf %s "$address" >"$reserved/last_reserved_ip.0"
printf '{"cniVersion":"1.0.0","hairpinMode":true,"ipMasq":false,"ipam":{"ranges":[[{"subnet":"%s"}]],"routes":[{"dst":"%s"}],"type":"host-local"},"isDefaultGateway":true,"isGateway":true,"mtu":%s,"name":"cbr0","type":"bridge"}' \
    "${gateway%1}0/24" "$FLANNEL_NETWORK" "$FLANNEL_MTU" >"/var/lib/cni/flannel/$id"

ip link show cni0 >/dev/null 2>&1 || ip link add cni0 mtu "$FLANNEL_MTU" type bridge
ip link set cni0 up
veth=veth$(printf %s "$id$number" | sha256sum | cut -c 1-8)
pod="nsenter --net=$CNI_NETNS"
ip link add "$veth" mtu "$FLANNEL_MTU" type veth peer name eth0 netns "${CNI_NETNS##*/}" mtu "$FLANNEL_MTU"
ip link set "$veth" master cni0 up
ip link set "$veth" type bridge_slave hairpin on
$pod ip address add "$address/24" dev eth0
$pod ip link set eth0 up
$pod ip route add "$FLANNEL_NETWORK" via "$gateway"
$pod ip route add default via "$gateway"
ip address replace "$FLANNEL_SUBNET" dev cni0
echo 1 >/proc/sys/net/ipv4/ip_forward
mac() { sed 's/.*link\/ether \([^ ]*\).*/\1/'; }
cat <<RESULT
{"cniVersion": "1.0.0",
 "interfaces": [{"mac": "$(ip -o link show cni0 | mac)", "name": "cni0"}, {"mac": "$(ip -o link show "$veth" | mac)", "name": "$veth"},
  {"mac": "$($pod ip -o link show eth0 | mac)", "name": "eth0", "sandbox": "$CNI_NETNS"}],
 "ips": [{"address": "$address/24", "gateway": "$gateway", "interface": 2}],
 "routes": [{"dst": "$FLANNEL_NETWORK"}, {"dst": "0.0.0.0/0", "gw": "$gateway"}]}
RESULT
