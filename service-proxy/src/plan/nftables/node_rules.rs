//! What of the rules is the same for all Services: it is a matter of the node.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use kernel::{
    Family, IfName,
    nft::{Field, Match, Operator, Statement, Value},
};

use crate::model::Catalogue;

/// What of one family's rules is the same for all Services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeRules {
    /// How connections from pods of this node are known; `None`: they are not (F27).
    pub pods: Option<Pods>,
    /// Every connection to a cluster IP is masqueraded, those of pods too (F25).
    pub masquerade_all: bool,
    /// The addresses of the node that NodePorts are served on.
    pub node_ports: NodePortAddresses,
    /// What marks connections to be masqueraded.
    pub mark: Mark,
    /// The networks that cluster IPs are taken from, as far as objects say (F15).
    pub service_networks: Vec<IpNetwork>,
}

/// What objects say of the node and of the cluster's networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The node's addresses, the primary one of each family first.
    pub addresses: Vec<IpAddr>,
    /// The networks of its pods.
    pub pod_networks: Vec<IpNetwork>,
    /// The networks that cluster IPs are taken from.
    pub service_networks: Vec<IpNetwork>,
}

/// A bit of packets' marks (F28).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(u32);

/// How connections from pods of this node are known (F27).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pods {
    /// By the pod network that the Node object names; not at all while it names none.
    OfNode,
    /// By the pod network.
    Network(IpNetwork),
    /// By the bridge that they come in by.
    Bridge(IfName),
    /// By how the name of the interface begins that they come in by.
    InterfacePrefix(IfName),
}

/// The addresses of the node that NodePorts are served on (F16).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// All but those of the loopback network.
    #[default]
    All,
    /// Those in these networks.
    In(Vec<IpNetwork>),
    /// The first one of the family that the Node object names; all while it names none.
    Primary,
}

// === impl NodePortAddresses ===

impl NodePortAddresses {
    /// Which they are in some surroundings.
    pub fn settled(&self, family: Family, around: &Surroundings) -> Self {
        let mut addresses = around.addresses.iter();
        match self {
            Self::Primary => match addresses.find(|address| Family::of(address) == family) {
                Some(address) => Self::In(vec![IpNetwork::from(*address)]),
                None => Self::All,
            },
            other => other.clone(),
        }
    }
}

// === impl Surroundings ===

impl Surroundings {
    /// What objects say now. Pod networks that were known once stay in force while the Node object names none.
    pub fn now(&self, catalogue: &Catalogue, node: &str) -> Self {
        let mut now = Self::of(catalogue, node);
        if now.pod_networks.is_empty() {
            now.pod_networks.clone_from(&self.pod_networks);
        }
        now
    }

    /// What is known of a node.
    pub fn of(catalogue: &Catalogue, node: &str) -> Self {
        let node = catalogue.node(node);
        Self {
            addresses: node.map(|node| node.addresses.clone()).unwrap_or_default(),
            pod_networks: node
                .map(|node| node.pod_networks.clone())
                .unwrap_or_default(),
            service_networks: catalogue.service_networks().collect(),
        }
    }
}

// === impl Mark ===

impl Mark {
    /// The bit of a number from 0 to 31; of a greater one bit 31.
    pub const fn bit(number: u32) -> Self {
        Self(1 << if number < 31 { number } else { 31 })
    }

    /// The mark with this bit alone.
    pub const fn value(self) -> u32 {
        self.0
    }
}

/// kube-proxy's, 0x4000.
impl Default for Mark {
    fn default() -> Self {
        Self::bit(14)
    }
}

// === impl NodeRules ===

impl NodeRules {
    /// The rules in some surroundings.
    pub fn settled(&self, family: Family, around: &Surroundings) -> Self {
        let pods = match &self.pods {
            Some(Pods::OfNode) => {
                let networks = around.pod_networks.iter().copied();
                of_family(family, networks).next().map(Pods::Network)
            }
            other => other.clone(),
        };
        Self {
            pods,
            masquerade_all: self.masquerade_all,
            node_ports: self.node_ports.settled(family, around),
            mark: self.mark,
            service_networks: of_family(family, around.service_networks.iter().copied()).collect(),
        }
    }

    /// The networks that cluster IPs are taken from, without those within others.
    pub fn service_networks(&self) -> Vec<IpNetwork> {
        widest(&self.service_networks)
    }

    /// Matches connections that are from pods, or that are not; `None` if they are not known.
    pub fn from_pods(&self, are: bool) -> Option<Statement> {
        let (field, operator) = match (self.pods.as_ref()?, are) {
            (Pods::OfNode, _) => return None,
            (Pods::Network(network), true) => {
                (Field::SourceAddress, Operator::Is(Value::Network(*network)))
            }
            (Pods::Network(network), false) => (
                Field::SourceAddress,
                Operator::IsNot(Value::Network(*network)),
            ),
            (Pods::Bridge(name), true) => (
                Field::InputInterface,
                Operator::Is(Value::IfName(name.clone())),
            ),
            (Pods::Bridge(name), false) => (
                Field::InputInterface,
                Operator::IsNot(Value::IfName(name.clone())),
            ),
            (Pods::InterfacePrefix(name), true) => {
                (Field::InputInterface, Operator::StartsWith(name.clone()))
            }
            (Pods::InterfacePrefix(name), false) => {
                (Field::InputInterface, Operator::StartsNotWith(name.clone()))
            }
        };
        Some(Statement::Match(Match { field, operator }))
    }

    /// The networks of addresses that NodePorts are served on, without those within others.
    pub fn node_port_networks(&self) -> Vec<IpNetwork> {
        let NodePortAddresses::In(networks) = &self.node_ports else {
            return Vec::new();
        };
        widest(networks)
    }
}

/// Networks without those within others.
fn widest(networks: &[IpNetwork]) -> Vec<IpNetwork> {
    let within = |inner: &IpNetwork, outer: &IpNetwork| {
        outer.prefix() < inner.prefix() && outer.contains(inner.network())
    };
    let mut widest: Vec<_> = networks
        .iter()
        .filter(|network| !networks.iter().any(|outer| within(network, outer)))
        .copied()
        .collect();
    widest.sort_unstable();
    widest.dedup();
    widest
}

fn of_family(
    family: Family,
    networks: impl Iterator<Item = IpNetwork>,
) -> impl Iterator<Item = IpNetwork> {
    networks.filter(move |network| Family::of_network(network) == family)
}

/// The loopback network, which NodePorts are not served on: answers could not come back.
pub fn loopback(family: Family) -> IpNetwork {
    let (address, prefix): (IpAddr, u8) = match family {
        Family::V4 => (Ipv4Addr::new(127, 0, 0, 0).into(), 8),
        Family::V6 => (Ipv6Addr::LOCALHOST.into(), 128),
    };
    IpNetwork::new(address, prefix).unwrap_or_else(|_| IpNetwork::from(address))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn network(text: &str) -> IpNetwork {
        text.parse().unwrap()
    }

    #[test]
    fn rules_follow_what_objects_say() {
        let options = NodeRules {
            pods: Some(Pods::OfNode),
            node_ports: NodePortAddresses::Primary,
            ..NodeRules::default()
        };
        let unknown = options.settled(Family::V4, &Surroundings::default());
        assert_eq!(unknown, NodeRules::default());

        let around = Surroundings {
            addresses: ["fd00::1", "192.0.2.1", "192.0.2.2"]
                .map(|text| text.parse().unwrap())
                .into(),
            pod_networks: ["fd00:1::/64", "10.244.1.0/24"].map(network).into(),
            service_networks: ["10.96.0.0/12", "fd00:96::/108", "10.96.0.0/16"]
                .map(network)
                .into(),
        };
        let v4 = options.settled(Family::V4, &around);
        assert_eq!(v4.pods, Some(Pods::Network(network("10.244.1.0/24"))));
        assert_eq!(v4.node_port_networks(), [network("192.0.2.1/32")]);
        assert_eq!(v4.service_networks(), [network("10.96.0.0/12")]);
        let v6 = options.settled(Family::V6, &around);
        assert_eq!(v6.node_port_networks(), [network("fd00::1/128")]);
        assert_eq!(v6.service_networks(), [network("fd00:96::/108")]);
    }
}
