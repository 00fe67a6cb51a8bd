//! Where NodePorts are served: `nodePortAddresses` (service-proxy F16, F17; KEP-6032 for `localhost` and `all`).

use std::collections::BTreeSet;

use ipnetwork::IpNetwork;
use kernel::Family;

use super::{Configuration, check::network};
use crate::plan::nftables::{NodePortAddresses, loopback};

/// The words that stand for addresses.
pub const PRIMARY: &str = "primary";
/// The loopback addresses.
pub const LOCALHOST: &str = "localhost";
/// All addresses, those of loopback too.
pub const ALL: &str = "all";

/// Where NodePorts are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePorts {
    /// The families whose loopback address this program serves itself.
    pub loopback: BTreeSet<Family>,
    addresses: Addresses,
    /// The kernel's rules serve the loopback network of IPv4.
    routes_loopback: bool,
}

/// Of the node's other addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Addresses {
    /// Those in these networks; of a family without any all.
    In(Vec<IpNetwork>),
    /// The primary ones.
    Primary,
    All,
}

// === impl NodePorts ===

impl NodePorts {
    /// As a configuration says. Where nothing is said of nftables mode, loopback is served as in iptables mode;
    /// in that mode, rules do it for IPv4.
    pub fn of(configuration: &Configuration) -> Self {
        let entries = &configuration.node_port_addresses;
        let has = |word| entries.iter().any(|entry| entry == word);
        let mut networks: Vec<_> = entries.iter().filter_map(|entry| network(entry)).collect();
        if has(LOCALHOST) {
            networks.extend(Family::ALL.map(loopback));
        }
        let routes_loopback = configuration.mode == "iptables";
        let allowed = configuration.iptables.localhost_node_ports != Some(false);
        let by_default = configuration.mode != "nftables" && entries.is_empty() && allowed;
        let listed = has(ALL) || networks.iter().any(is_loopback);
        let loopback: &[Family] = match by_default || listed && (allowed || !routes_loopback) {
            true if routes_loopback => &[Family::V6],
            true => &Family::ALL,
            false => &[],
        };
        Self {
            routes_loopback,
            loopback: loopback.iter().copied().collect(),
            addresses: if has(ALL) {
                Addresses::All
            } else if has(PRIMARY) {
                Addresses::Primary
            } else {
                Addresses::In(networks)
            },
        }
    }

    /// The node's addresses of a family that the kernel serves, which is those of loopback only where it is told
    /// to route them.
    pub fn addresses(&self, family: Family) -> NodePortAddresses {
        let networks = match &self.addresses {
            Addresses::In(networks) => networks,
            Addresses::Primary => return NodePortAddresses::Primary,
            Addresses::All => return NodePortAddresses::All,
        };
        let of_family = |network: &&IpNetwork| Family::of_network(network) == family;
        let networks: Vec<_> = networks.iter().filter(of_family).copied().collect();
        if networks.is_empty() || networks.iter().any(|network| network.prefix() == 0) {
            return NodePortAddresses::All;
        }
        let stays = self.routes_loopback && family == Family::V4;
        let networks = networks.into_iter();
        NodePortAddresses::In(networks.filter(|it| stays || !is_loopback(it)).collect())
    }
}

fn is_loopback(network: &IpNetwork) -> bool {
    let loopback = loopback(Family::of_network(network));
    loopback.contains(network.ip()) && network.prefix() >= loopback.prefix()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn where_the_configuration_says() {
        use NodePortAddresses::{All, In, Primary};
        let networks = |texts: &[&str]| {
            let networks = texts.iter().map(|text| text.parse().unwrap());
            In(networks.collect())
        };
        let (none, both) = (&[][..], &Family::ALL[..]);
        for (mode, entries, loopback, expected) in [
            ("", &[][..], both, [All, All]),
            ("nftables", &[], none, [All, All]),
            ("iptables", &[], &[Family::V6], [All, All]),
            (
                "iptables",
                &["localhost"],
                &[Family::V6],
                [networks(&["127.0.0.0/8"]), networks(&[])],
            ),
            (
                "",
                &["192.0.2.0/24"],
                none,
                [networks(&["192.0.2.0/24"]), All],
            ),
            ("", &["primary"], none, [Primary, Primary]),
            (
                "nftables",
                &["primary", "localhost"],
                both,
                [Primary, Primary],
            ),
            (
                "nftables",
                &["localhost"],
                both,
                [networks(&[]), networks(&[])],
            ),
            ("nftables", &["all"], both, [All, All]),
            ("nftables", &["127.0.0.0/8"], both, [networks(&[]), All]),
            (
                "nftables",
                &["192.0.2.0/24", "localhost"],
                both,
                [networks(&["192.0.2.0/24"]), networks(&[])],
            ),
            ("nftables", &["0.0.0.0/0", "::/0"], none, [All, All]),
        ] {
            let mut configuration = Configuration::usual();
            configuration.mode = mode.into();
            configuration.node_port_addresses = entries.iter().map(|it| (*it).to_owned()).collect();
            let node_ports = NodePorts::of(&configuration);
            let served: Vec<_> = node_ports.loopback.iter().copied().collect();
            assert_eq!(served, loopback, "{entries:?}");
            let found = Family::ALL.map(|family| node_ports.addresses(family));
            assert_eq!(found, expected, "{entries:?}");
        }
        let mut configuration = Configuration::usual();
        configuration.iptables.localhost_node_ports = Some(false);
        assert!(NodePorts::of(&configuration).loopback.is_empty());
    }
}
