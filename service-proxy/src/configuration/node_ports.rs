//! Where NodePorts are served: `nodePortAddresses` (service-proxy F16, F17; KEP-6032 for `localhost` and `all`).

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
    /// On 127.0.0.1 and ::1.
    pub loopback: bool,
    addresses: Addresses,
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
    /// As a configuration says. Where nothing is said of nftables mode, loopback is served as in iptables mode.
    pub fn of(configuration: &Configuration) -> Self {
        let entries = &configuration.node_port_addresses;
        let has = |word| entries.iter().any(|entry| entry == word);
        let mut networks: Vec<_> = entries.iter().filter_map(|entry| network(entry)).collect();
        if has(LOCALHOST) {
            networks.extend(Family::ALL.map(loopback));
        }
        let by_default = configuration.mode != "nftables"
            && entries.is_empty()
            && configuration.iptables.localhost_node_ports != Some(false);
        Self {
            loopback: by_default || has(ALL) || networks.iter().any(is_loopback),
            addresses: if has(ALL) {
                Addresses::All
            } else if has(PRIMARY) {
                Addresses::Primary
            } else {
                Addresses::In(networks)
            },
        }
    }

    /// The node's addresses of a family, but those of loopback, which the kernel can't serve.
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
        NodePortAddresses::In(networks.into_iter().filter(|it| !is_loopback(it)).collect())
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
        for (mode, entries, loopback, expected) in [
            ("", &[][..], true, [All, All]),
            ("nftables", &[], false, [All, All]),
            (
                "",
                &["192.0.2.0/24"],
                false,
                [networks(&["192.0.2.0/24"]), All],
            ),
            ("", &["primary"], false, [Primary, Primary]),
            (
                "nftables",
                &["primary", "localhost"],
                true,
                [Primary, Primary],
            ),
            (
                "nftables",
                &["localhost"],
                true,
                [networks(&[]), networks(&[])],
            ),
            ("nftables", &["all"], true, [All, All]),
            ("nftables", &["127.0.0.0/8"], true, [networks(&[]), All]),
            (
                "nftables",
                &["192.0.2.0/24", "localhost"],
                true,
                [networks(&["192.0.2.0/24"]), networks(&[])],
            ),
            ("nftables", &["0.0.0.0/0", "::/0"], false, [All, All]),
        ] {
            let mut configuration = Configuration::usual();
            configuration.mode = mode.into();
            configuration.node_port_addresses = entries.iter().map(|it| (*it).to_owned()).collect();
            let node_ports = NodePorts::of(&configuration);
            assert_eq!(node_ports.loopback, loopback, "{entries:?}");
            let found = Family::ALL.map(|family| node_ports.addresses(family));
            assert_eq!(found, expected, "{entries:?}");
        }
        let mut configuration = Configuration::usual();
        configuration.iptables.localhost_node_ports = Some(false);
        assert!(!NodePorts::of(&configuration).loopback);
    }
}
