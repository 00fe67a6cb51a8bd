//! What of a changed network configuration a running agent can go on with.

use ipnetwork::IpNetwork;
use kernel::Family;

use crate::model::{Backend, ByFamily, NetConf, PacketFilter, Pool, VxlanConf, WireguardConf};

/// What to do about a changed configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfUpdate {
    /// What to go on with.
    pub running: NetConf,
    /// The keys whose change waits for a restart.
    pub waiting: Vec<&'static str>,
}

// === impl ConfUpdate ===

impl ConfUpdate {
    /// Goes from a configuration to a changed one, as far as that leaves the lease (`held`) and what is in
    /// the way of packets as they are: the MTU, the nodes that are reached directly, the packet filter, the
    /// bounds of the subnets. iptables can be taken up if the kernel shows it packets of bridges.
    pub fn new(
        before: &NetConf,
        changed: &NetConf,
        held: &ByFamily<IpNetwork>,
        can_iptables: bool,
    ) -> Self {
        let mut waiting = Vec::new();
        let pools = before.pools.iter();
        let pools = pools.map(|(family, pool)| {
            let changed = changed.pools.get(family);
            let held = held.get(family).copied();
            (family, choose_pool(pool, changed, held, &mut waiting))
        });
        let mut running = NetConf {
            pools: pools.collect(),
            ..before.clone()
        };
        let added =
            |family| before.pools.get(family).is_none() && changed.pools.get(family).is_some();
        if Family::ALL.into_iter().any(added) {
            waiting.push("EnableIPv4 or EnableIPv6");
        }
        if changed.packet_filter == PacketFilter::Iptables && !can_iptables {
            note(
                &mut waiting,
                "EnableNFTables",
                changed.packet_filter != before.packet_filter,
            );
        } else {
            running.packet_filter = changed.packet_filter;
        }
        running.backend = choose_backend(&before.backend, &changed.backend, &mut waiting);
        Self { running, waiting }
    }
}

fn choose_pool(
    before: &Pool,
    changed: Option<&Pool>,
    held: Option<IpNetwork>,
    waiting: &mut Vec<&'static str>,
) -> Pool {
    let Some(changed) = changed else {
        waiting.push("EnableIPv4 or EnableIPv6");
        return *before;
    };
    let is_cut_alike =
        before.network() == changed.network() && before.subnet_len() == changed.subnet_len();
    if !is_cut_alike {
        waiting.push("Network or SubnetLen");
        return *before;
    }
    if held.is_some_and(|held| before.holds(held) && !changed.holds(held)) {
        waiting.push("SubnetMin or SubnetMax (this node's subnet is outside of them)");
        return *before;
    }
    *changed
}

fn choose_backend(before: &Backend, changed: &Backend, waiting: &mut Vec<&'static str>) -> Backend {
    match (before, changed) {
        (Backend::Vxlan(before), Backend::Vxlan(changed)) => {
            note(waiting, "Backend.VNI", before.vni != changed.vni);
            note(waiting, "Backend.Port", before.port != changed.port);
            note(waiting, "Backend.GBP", before.gbp != changed.gbp);
            note(
                waiting,
                "Backend.Learning",
                before.learning != changed.learning,
            );
            Backend::Vxlan(VxlanConf {
                mtu: changed.mtu,
                direct_routing: changed.direct_routing,
                ..before.clone()
            })
        }
        (Backend::Wireguard(before), Backend::Wireguard(changed)) => {
            let ports = |conf: &WireguardConf| (conf.listen_port, conf.listen_port_v6);
            let are_others = ports(before) != ports(changed);
            note(waiting, "Backend.ListenPort or ListenPortV6", are_others);
            note(waiting, "Backend.Mode", before.mode != changed.mode);
            Backend::Wireguard(WireguardConf {
                psk: changed.psk,
                mtu: changed.mtu,
                keepalive: changed.keepalive,
                ..before.clone()
            })
        }
        (Backend::Ipip(_), Backend::Ipip(changed)) => Backend::Ipip(changed.clone()),
        (before, changed) => {
            note(waiting, "Backend.Type", before != changed);
            before.clone()
        }
    }
}

fn note(waiting: &mut Vec<&'static str>, key: &'static str, is_changed: bool) {
    if is_changed {
        waiting.push(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(text: &str) -> NetConf {
        NetConf::parse(text.as_bytes()).unwrap()
    }

    /// A configuration for IPv4 with these keys.
    fn vxlan(keys: &str, backend: &str) -> NetConf {
        conf(&format!(
            r#"{{"Network":"10.5.0.0/16"{keys},"Backend":{{"Type":"vxlan"{backend}}}}}"#
        ))
    }

    fn update(before: &NetConf, changed: &NetConf, held: &str) -> ConfUpdate {
        let held = (Family::V4, held.parse().unwrap());
        ConfUpdate::new(before, changed, &[held].into_iter().collect(), true)
    }

    #[test]
    fn what_leaves_the_lease_as_it_is_is_gone_on_with() {
        let before = vxlan("", "");
        for changed in [
            vxlan("", r#","MTU":1400"#),
            vxlan("", r#","DirectRouting":true"#),
            vxlan(r#","EnableNFTables":false"#, ""),
            vxlan(r#","SubnetMin":"10.5.30.0","SubnetMax":"10.5.40.0""#, ""),
        ] {
            let update = update(&before, &changed, "10.5.34.0/24");
            assert_eq!((update.running, update.waiting), (changed, vec![]));
        }
        let wireguard = |keys: &str| {
            conf(&format!(
                r#"{{"Network":"10.5.0.0/16","Backend":{{"Type":"wireguard"{keys}}}}}"#
            ))
        };
        let psk = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
        let changed = wireguard(&format!(
            r#","PSK":"{psk}","PersistentKeepaliveInterval":9"#
        ));
        let update = update(&wireguard(""), &changed, "10.5.34.0/24");
        assert_eq!((update.running, update.waiting), (changed, vec![]));
    }

    #[test]
    fn the_rest_waits_for_a_restart() {
        let before = vxlan("", "");
        for (changed, keys) in [
            (vxlan("", r#","VNI":2"#), &["Backend.VNI"][..]),
            (
                vxlan("", r#","Port":2,"GBP":true,"Learning":true"#),
                &["Backend.Port", "Backend.GBP", "Backend.Learning"],
            ),
            (vxlan(r#","SubnetLen":25"#, ""), &["Network or SubnetLen"]),
            (
                vxlan(r#","SubnetMin":"10.5.40.0""#, ""),
                &["SubnetMin or SubnetMax (this node's subnet is outside of them)"],
            ),
            (
                vxlan(r#","EnableIPv6":true,"IPv6Network":"fc00::/48""#, ""),
                &["EnableIPv4 or EnableIPv6"],
            ),
            (
                conf(r#"{"Network":"10.5.0.0/16","Backend":{"Type":"host-gw"}}"#),
                &["Backend.Type"],
            ),
        ] {
            let update = update(&before, &changed, "10.5.34.0/24");
            assert_eq!((&update.running, &update.waiting[..]), (&before, keys));
        }
        let changed = vxlan(r#","EnableNFTables":false"#, "");
        let update = ConfUpdate::new(&before, &changed, &ByFamily::default(), false);
        assert_eq!(
            (update.running, update.waiting),
            (before, vec!["EnableNFTables"])
        );
    }

    #[test]
    fn what_can_be_is_taken_of_a_change_that_has_to_wait() {
        let changed = vxlan("", r#","VNI":2,"MTU":1400"#);
        let update = update(&vxlan("", ""), &changed, "10.5.34.0/24");
        assert_eq!(update.running, vxlan("", r#","MTU":1400"#));
        assert_eq!(update.waiting, ["Backend.VNI"]);
    }

    #[test]
    fn without_a_lease_all_bounds_are_right() {
        let (before, changed) = (vxlan("", ""), vxlan(r#","SubnetMin":"10.5.40.0""#, ""));
        let update = ConfUpdate::new(&before, &changed, &ByFamily::default(), true);
        assert_eq!((update.running, update.waiting), (changed, vec![]));
    }
}
