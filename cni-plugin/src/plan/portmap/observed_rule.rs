//! What a rule of the table `cni_hostport` says, told from its expressions.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use kernel::{
    conntrack::Protocol,
    nft::{Expr, Header, MetaKey, ObservedRule},
};

use super::Forward;

/// What an observed rule says.
pub struct Parsed {
    /// If it translates to a constant.
    pub forward: Option<Forward>,
    /// The container's address: where it translates to, or what it masquerades packets for.
    pub destination: Option<IpAddr>,
}

// === impl Parsed ===

impl Parsed {
    /// Reads a rule.
    pub fn of(rule: &ObservedRule) -> Self {
        let mut compared: BTreeMap<&str, &[u8]> = BTreeMap::new();
        let mut loaded = None;
        let mut constants: Vec<(_, &[u8])> = Vec::new();
        let mut target = None;
        for expression in &rule.expressions {
            match expression {
                Expr::Meta {
                    key: MetaKey::Protocol,
                    ..
                } => loaded = Some("protocol"),
                Expr::Payload {
                    header: Header::Transport,
                    offset: 2,
                    len: 2,
                    ..
                } => {
                    loaded = Some("port");
                }
                Expr::Payload {
                    header: Header::Network,
                    offset: 16,
                    len: 4,
                    ..
                }
                | Expr::Payload {
                    header: Header::Network,
                    offset: 24,
                    len: 16,
                    ..
                } => {
                    loaded = Some("destination");
                }
                Expr::Compare {
                    negated: false,
                    value,
                    ..
                } => {
                    if let Some(what) = loaded.take() {
                        compared.insert(what, value);
                    }
                }
                Expr::Immediate { to, value } => constants.push((*to, value)),
                Expr::Dnat { address, port, .. } => {
                    let constant = |register| {
                        let mut last_first = constants.iter().rev();
                        last_first
                            .find(|(to, _)| *to == register)
                            .map(|(_, value)| *value)
                    };
                    let to = constant(*address).and_then(address_of);
                    target = to.zip(constant(*port).and_then(port_of));
                }
                _ => loaded = None,
            }
        }
        let host_ip = compared
            .get("destination")
            .and_then(|bytes| address_of(bytes));
        let Some((address, port)) = target else {
            return Self {
                forward: None,
                destination: host_ip,
            };
        };
        let protocol = compared.get("protocol").and_then(|bytes| bytes.first());
        let mut protocols = Protocol::ALL.into_iter();
        let forward = protocols
            .find(|it| Some(&it.number()) == protocol)
            .zip(compared.get("port").and_then(|bytes| port_of(bytes)))
            .map(|(protocol, host_port)| Forward {
                protocol,
                port: host_port,
                host_ip,
                target: SocketAddr::new(address, port),
            });
        Self {
            forward,
            destination: Some(address),
        }
    }
}

fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

fn port_of(bytes: &[u8]) -> Option<u16> {
    <[u8; 2]>::try_from(bytes).map(u16::from_be_bytes).ok()
}
