//! Which rules lead from ports of the node into a container.
//!
//! Names and rules are those of the reference plugin, so that either removes what the other made.

pub mod chain_rule;
pub mod conditions;
mod entry;
pub mod iptables;
pub mod nftables;
mod observed_rule;
mod words;

use std::net::{IpAddr, SocketAddr};

use ipnetwork::IpNetwork;
use kernel::{Family, conntrack::Protocol};

use crate::model::{PortMapping, PortmapConf};

/// What one address of a container gets.
#[derive(Clone, Copy, Debug)]
pub struct Forwarding<'a> {
    /// The network's name.
    pub network: &'a str,
    /// The container.
    pub container_id: &'a str,
    /// The container's address, with the prefix length of its subnet.
    pub address: IpNetwork,
    /// Addresses of other interfaces of the container.
    pub siblings: &'a [IpAddr],
    /// The plugin's configuration.
    pub conf: &'a PortmapConf,
}

/// A port of the node that leads somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The protocol.
    pub protocol: Protocol,
    /// The node's port.
    pub port: u16,
    /// The node's address; all of the family where it is `None`.
    pub host_ip: Option<IpAddr>,
    /// Where to.
    pub target: SocketAddr,
}

/// A port that somebody has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Who has it: the container's id, as far as the rule says it.
    pub container_id: String,
    /// What it has.
    pub forward: Forward,
}

/// Why there can be no rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Another container has a port.
    #[error(
        "host port {port}/{protocol} is held by container {holder}, which it leads to at {target}: remove that container, or choose another hostPort or hostIP"
    )]
    Held {
        /// The node's port.
        port: u16,
        /// The protocol.
        protocol: Protocol,
        /// The container that has it.
        holder: String,
        /// Where it leads.
        target: SocketAddr,
    },
    /// A condition that only nft(8) can read.
    #[error(
        "{key}: {words:?} is not understood: want [ip|ip6] saddr|daddr [!=] ADDRESS|NETWORK, or iifname [!=] NAME"
    )]
    Condition {
        /// The key.
        key: &'static str,
        /// What follows what was understood.
        words: String,
    },
}

// === impl Forwarding ===

impl Forwarding<'_> {
    /// The family of the address.
    pub fn family(&self) -> Family {
        Family::of_network(&self.address)
    }

    /// The mappings that concern this address's family.
    pub fn forwards(&self) -> Vec<Forward> {
        let mappings = self.conf.mappings.iter();
        mappings
            .filter_map(|mapping| self.forward(mapping))
            .collect()
    }

    fn forward(&self, mapping: &PortMapping) -> Option<Forward> {
        let ours = |ip: &IpAddr| Family::of(ip) == self.family();
        mapping.host_ip.as_ref().is_none_or(ours).then(|| Forward {
            protocol: mapping.protocol,
            port: mapping.host_port,
            host_ip: mapping.host_ip.filter(|ip| !ip.is_unspecified()),
            target: SocketAddr::new(self.address.ip(), mapping.container_port),
        })
    }

    /// Refuses if another container has one of the ports, or another interface of this one. A container that
    /// has our own address is gone: what it held is left over, and named in the answer.
    fn check_holds(&self, holds: &[Hold]) -> Result<Vec<String>, PlanError> {
        let wanted = self.forwards();
        let mut left_over = Vec::new();
        let is_own = |hold: &Hold| {
            hold.container_id == self.container_id
                && !self.siblings.contains(&hold.forward.target.ip())
        };
        for hold in holds.iter().filter(|hold| !is_own(hold)) {
            let Forward {
                protocol,
                port,
                target,
                ..
            } = hold.forward;
            if !wanted.iter().any(|forward| forward.collides(&hold.forward)) {
                continue;
            }
            if target.ip() != self.address.ip() {
                let holder = hold.container_id.clone();
                return Err(PlanError::Held {
                    port,
                    protocol,
                    holder,
                    target,
                });
            }
            left_over.push(hold.container_id.clone());
        }
        Ok(left_over)
    }
}

// === impl Forward ===

impl Forward {
    /// Whether a packet could be meant for both.
    fn collides(&self, other: &Self) -> bool {
        let apart =
            |one: Option<IpAddr>, two: Option<IpAddr>| one.zip(two).is_some_and(|(a, b)| a != b);
        (self.protocol, self.port) == (other.protocol, other.port)
            && !apart(self.host_ip, other.host_ip)
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::{Value, json};

    use super::*;
    use crate::model::NetConf;

    /// A configuration with port mappings.
    pub fn conf(keys: Value, mappings: Value) -> PortmapConf {
        let mut object = json!({"name": "n", "cniVersion": "1.0.0"});
        for (key, value) in keys.as_object().unwrap() {
            object[key] = value.clone();
        }
        object["runtimeConfig"] = json!({"portMappings": mappings});
        let conf = NetConf::parse(object.to_string().as_bytes()).unwrap();
        PortmapConf::of(&conf).unwrap()
    }

    #[test]
    fn only_what_could_get_the_same_packets_collides() {
        let forward = |protocol, port, host_ip: &str| Forward {
            protocol,
            port,
            host_ip: host_ip.parse().ok(),
            target: "10.1.0.2:80".parse().unwrap(),
        };
        let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
        for (one, two, collide) in [
            (forward(tcp, 80, ""), forward(tcp, 80, ""), true),
            (forward(tcp, 80, ""), forward(udp, 80, ""), false),
            (forward(tcp, 80, ""), forward(tcp, 81, ""), false),
            (forward(tcp, 80, ""), forward(tcp, 80, "10.0.0.1"), true),
            (
                forward(tcp, 80, "10.0.0.1"),
                forward(tcp, 80, "10.0.0.1"),
                true,
            ),
            (
                forward(tcp, 80, "10.0.0.1"),
                forward(tcp, 80, "10.0.0.2"),
                false,
            ),
        ] {
            assert_eq!(one.collides(&two), collide, "{one:?} {two:?}");
            assert_eq!(two.collides(&one), collide, "{one:?} {two:?}");
        }
    }

    #[test]
    fn mappings_go_to_the_family_of_their_host_ip() {
        let conf = conf(
            json!({}),
            json!([
                {"hostPort": 1, "containerPort": 1, "protocol": "tcp"},
                {"hostPort": 2, "containerPort": 2, "protocol": "tcp", "hostIP": "0.0.0.0"},
                {"hostPort": 3, "containerPort": 3, "protocol": "tcp", "hostIP": "::"},
                {"hostPort": 4, "containerPort": 4, "protocol": "tcp", "hostIP": "fd00::1"},
            ]),
        );
        let ports = |address: &str| -> Vec<(u16, bool)> {
            let forwarding = Forwarding {
                network: "n",
                container_id: "c",
                address: address.parse().unwrap(),
                siblings: &[],
                conf: &conf,
            };
            let forwards = forwarding.forwards().into_iter();
            forwards.map(|it| (it.port, it.host_ip.is_some())).collect()
        };
        assert_eq!(ports("10.1.0.2/24"), [(1, false), (2, false)]);
        assert_eq!(ports("fd01::2/64"), [(1, false), (3, false), (4, true)]);
    }
}
