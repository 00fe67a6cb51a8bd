#!/bin/sh
# Does to a node what kube-proxy in iptables mode does for the Service default/web of the test, where there is none.
# A file has the addresses of its two endpoints. To be ended by a signal, which leaves all of it.
set -eu
# shellcheck disable=SC2046
set -- $(cat /etc/kube-proxy.pods)
# jump TABLE CHAIN TARGET CONDITION...: as kube-proxy does, before there is anything to jump to.
jump() {
    table=$1 chain=$2 target=$3
    shift 3
    iptables -w -t "$table" -N "$target" 2>/dev/null || true
    iptables -w -t "$table" -C "$chain" "$@" -j "$target" 2>/dev/null || iptables -w -t "$table" -I "$chain" "$@" -j "$target"
}
portals='kubernetes service portals'
for chain in INPUT FORWARD OUTPUT; do
    jump filter $chain KUBE-PROXY-FIREWALL -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall"
done
for chain in FORWARD OUTPUT; do
    jump filter $chain KUBE-SERVICES -m conntrack --ctstate NEW -m comment --comment "$portals"
done
for chain in INPUT FORWARD; do
    jump filter $chain KUBE-EXTERNAL-SERVICES -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals"
done
jump filter INPUT KUBE-NODEPORTS -m comment --comment "kubernetes health check service ports"
jump filter FORWARD KUBE-FORWARD -m comment --comment "kubernetes forwarding rules"
for chain in INPUT OUTPUT; do jump filter $chain KUBE-FIREWALL; done
for chain in OUTPUT PREROUTING; do jump nat $chain KUBE-SERVICES -m comment --comment "$portals"; done
jump nat POSTROUTING KUBE-POSTROUTING -m comment --comment "kubernetes postrouting rules"
iptables-restore --noflush --wait <<RULES
*filter
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-FIREWALL - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-PROXY-CANARY - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-SERVICES - [0:0]
-A KUBE-FIREWALL -m comment --comment "block incoming localnet connections" -d 127.0.0.0/8 ! -s 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
*nat
:KUBE-EXT-LOLE4ISW44XBNF3G - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-PROXY-CANARY - [0:0]
:KUBE-SEP-AAAAAAAAAAAAAAAA - [0:0]
:KUBE-SEP-BBBBBBBBBBBBBBBB - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-LOLE4ISW44XBNF3G - [0:0]
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
-A KUBE-SERVICES -m comment --comment "default/web:http cluster IP" -m tcp -p tcp -d 10.97.97.97 --dport 80 -j KUBE-SVC-LOLE4ISW44XBNF3G
-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-NODEPORTS -m comment --comment default/web:http -m tcp -p tcp --dport 30080 -j KUBE-EXT-LOLE4ISW44XBNF3G
-A KUBE-EXT-LOLE4ISW44XBNF3G -m comment --comment "masquerade traffic for default/web:http external destinations" -j KUBE-MARK-MASQ
-A KUBE-EXT-LOLE4ISW44XBNF3G -j KUBE-SVC-LOLE4ISW44XBNF3G
-A KUBE-SVC-LOLE4ISW44XBNF3G -m comment --comment "default/web:http cluster IP" -m tcp -p tcp -d 10.97.97.97 --dport 80 ! -s 10.244.0.0/16 -j KUBE-MARK-MASQ
-A KUBE-SVC-LOLE4ISW44XBNF3G -m comment --comment "default/web:http -> $1:80" -m statistic --mode random --probability 0.5000000000 -j KUBE-SEP-AAAAAAAAAAAAAAAA
-A KUBE-SVC-LOLE4ISW44XBNF3G -m comment --comment "default/web:http -> $2:80" -j KUBE-SEP-BBBBBBBBBBBBBBBB
-A KUBE-SEP-AAAAAAAAAAAAAAAA -m comment --comment default/web:http -s $1 -j KUBE-MARK-MASQ
-A KUBE-SEP-AAAAAAAAAAAAAAAA -m comment --comment default/web:http -m tcp -p tcp -j DNAT --to-destination $1:80
-A KUBE-SEP-BBBBBBBBBBBBBBBB -m comment --comment default/web:http -s $2 -j KUBE-MARK-MASQ
-A KUBE-SEP-BBBBBBBBBBBBBBBB -m comment --comment default/web:http -m tcp -p tcp -j DNAT --to-destination $2:80
COMMIT
RULES
exec sleep infinity
