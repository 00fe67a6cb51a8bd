//! What a rule of the table `cni_hostport` says, told from its expressions.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use kernel::{
    conntrack::Protocol,
    nft::{Expr, Header, MetaKey, ObservedRule, Register},
};

use super::Forward;

/// What an observed rule says.
pub struct Parsed {
    /// If it translates to a constant.
    pub forward: Option<Forward>,
    /// The container's address: where it translates to, or what it masquerades packets for.
    pub destination: Option<IpAddr>,
}

/// What a packet is compared by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Field {
    Protocol,
    Port,
    Destination,
}

/// What the expressions say that were read so far.
#[derive(Default)]
struct Reader<'a> {
    loaded: Option<Field>,
    compared: BTreeMap<Field, &'a [u8]>,
    constants: Vec<(Register, &'a [u8])>,
    /// What the packet is translated to.
    target: Option<SocketAddr>,
}

// === impl Parsed ===

impl Parsed {
    /// Reads a rule.
    pub fn of(rule: &ObservedRule) -> Self {
        let mut reader = Reader::default();
        for expression in &rule.expressions {
            reader.read(expression);
        }
        let host_ip = reader.host_ip();
        Self {
            forward: reader.target.and_then(|target| reader.forward(target)),
            destination: reader.target.map(|target| target.ip()).or(host_ip),
        }
    }
}

// === impl Reader ===

impl<'a> Reader<'a> {
    fn read(&mut self, expression: &'a Expr) {
        match expression {
            Expr::Compare {
                negated: false,
                value,
                ..
            } => {
                let compared = self.loaded.take().map(|field| (field, value.as_slice()));
                self.compared.extend(compared);
            }
            Expr::Immediate { to, value } => self.constants.push((*to, value)),
            Expr::Dnat { address, port, .. } => {
                let address = self.constant(*address).and_then(address_of);
                let port = self.constant(*port).and_then(port_of);
                self.target = address
                    .zip(port)
                    .map(|(address, port)| SocketAddr::new(address, port));
            }
            other => self.loaded = field(other),
        }
    }

    /// The constant that a register was given last.
    fn constant(&self, register: Register) -> Option<&'a [u8]> {
        let mut last_first = self.constants.iter().rev();
        last_first
            .find(|(to, _)| *to == register)
            .map(|(_, value)| *value)
    }

    fn compared(&self, field: Field) -> Option<&'a [u8]> {
        self.compared.get(&field).copied()
    }

    fn host_ip(&self) -> Option<IpAddr> {
        self.compared(Field::Destination).and_then(address_of)
    }

    fn forward(&self, target: SocketAddr) -> Option<Forward> {
        let number = self.compared(Field::Protocol)?.first()?;
        let mut protocols = Protocol::ALL.into_iter();
        Some(Forward {
            protocol: protocols.find(|it| it.number() == *number)?,
            port: self.compared(Field::Port).and_then(port_of)?,
            host_ip: self.host_ip(),
            target,
        })
    }
}

/// What an expression loads, of what is compared here.
fn field(expression: &Expr) -> Option<Field> {
    match expression {
        Expr::Meta {
            key: MetaKey::Protocol,
            ..
        } => Some(Field::Protocol),
        Expr::Payload {
            header,
            offset,
            len,
            ..
        } => match (header, offset, len) {
            (Header::Transport, 2, 2) => Some(Field::Port),
            // Of IPv4, of IPv6.
            (Header::Network, 16, 4) | (Header::Network, 24, 16) => Some(Field::Destination),
            _ => None,
        },
        _ => None,
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
