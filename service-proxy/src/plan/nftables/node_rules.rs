//! What of the rules is the same for all Services: it is a matter of the node.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use kernel::{
    Family, IfName,
    nft::{Field, Match, Operator, Statement, Value},
};

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
}

/// A bit of packets' marks (F28).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(u32);

/// How connections from pods of this node are known (F27).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pods {
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
    /// Matches connections that are from pods, or that are not; `None` if they are not known.
    pub fn from_pods(&self, are: bool) -> Option<Statement> {
        let (field, operator) = match (self.pods.as_ref()?, are) {
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
}

/// The loopback network, which NodePorts are not served on: answers could not come back.
pub fn loopback(family: Family) -> IpNetwork {
    let (address, prefix): (IpAddr, u8) = match family {
        Family::V4 => (Ipv4Addr::new(127, 0, 0, 0).into(), 8),
        Family::V6 => (Ipv6Addr::LOCALHOST.into(), 128),
    };
    IpNetwork::new(address, prefix).unwrap_or_else(|_| IpNetwork::from(address))
}
