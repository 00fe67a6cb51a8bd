//! Sets and maps, and their elements.

use std::{collections::BTreeMap, net::IpAddr};

use ipnetwork::IpNetwork;

use super::Verdict;
use crate::Family;

/// A named set or map with its elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// The type of a key: one field, or several concatenated.
    pub key: Vec<DataType>,
    /// What a key is mapped to; `None` for a plain set.
    pub data: Option<SetData>,
    /// `size`: the most elements that it can hold, 0 for no limit. It can't be changed while the set
    /// exists. Kernels before 6.14 count a network twice, so that interval sets are better left without one.
    pub size: u32,
    /// `flags interval`: its keys are [networks](Value::Network), all of them. Only for keys of one address
    /// field.
    pub interval: bool,
    /// `flags dynamic,timeout`: rules add elements to it, which go by themselves after a while. What is in
    /// such a set is nobody's wish, and is left alone.
    pub dynamic: bool,
    /// `comment "..."`.
    pub comment: Option<String>,
    /// Its elements, by key.
    pub elements: BTreeMap<Key, Element>,
}

/// What a map maps to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetData {
    /// A verdict (`: verdict`).
    Verdict,
    /// Values: one field, or several concatenated.
    Value(Vec<DataType>),
}

/// The type of a field of a key or of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DataType {
    /// `ipv4_addr`.
    Ipv4Addr,
    /// `ipv6_addr`.
    Ipv6Addr,
    /// `inet_proto`: an IP protocol number.
    InetProto,
    /// `inet_service`: a port.
    InetService,
    /// `mark`: 32 bits in host byte order.
    Mark,
    /// The type of [`Field::Random`](super::Field::Random): 32 bits in host byte order, such as the slot
    /// of an endpoint. nft has no name for it but `typeof numgen random mod 4294967295`, and refuses `mark` for it.
    Number,
    /// `ifname`.
    IfName,
}

/// A value of a field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// An address.
    Address(IpAddr),
    /// A network: a key of an interval set, where a single address has to be written as one too, or the
    /// operand of a match. Bits behind the prefix are of no account.
    Network(IpNetwork),
    /// An IP protocol number (6 TCP, 17 UDP, 132 SCTP).
    Protocol(u8),
    /// A type of ICMPv6 messages (134 router advertisement): the operand of a match only.
    Icmpv6Type(u8),
    /// A port.
    Port(u16),
    /// A packet mark.
    Mark(u32),
    /// A number as [`Field::Random`](super::Field::Random) draws it.
    Number(u32),
    /// An interface name.
    IfName(crate::IfName),
    /// An Ethernet address: the operand of a match only.
    Mac(crate::Mac),
}

/// The key of an element: a value per field of the set's key type.
pub type Key = Vec<Value>;

/// What an element carries beside its key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    /// What the key is mapped to; `None` in a plain set.
    pub data: Option<Data>,
    /// `comment "..."`; at most 128 bytes.
    pub comment: Option<String>,
}

/// What a map's key is mapped to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// A verdict.
    Verdict(Verdict),
    /// A value per field of the map's data type.
    Value(Vec<Value>),
}

// === impl Set ===

impl Set {
    /// Whether nft can name its type by an expression only.
    pub(super) fn needs_typeof(&self) -> bool {
        let values = match &self.data {
            Some(SetData::Value(types)) => types.as_slice(),
            _ => &[],
        };
        self.key
            .iter()
            .chain(values)
            .any(|kind| *kind == DataType::Number)
    }
}

// === impl DataType ===

impl DataType {
    /// The type of an address.
    pub const fn address(family: Family) -> Self {
        match family {
            Family::V4 => Self::Ipv4Addr,
            Family::V6 => Self::Ipv6Addr,
        }
    }

    /// Whether a value is of this type.
    pub(super) fn has(self, value: &Value) -> bool {
        match value {
            Value::Address(address) => self == Self::address(Family::of(address)),
            Value::Network(_) | Value::Mac(_) | Value::Icmpv6Type(_) => false,
            Value::Protocol(_) => self == Self::InetProto,
            Value::Port(_) => self == Self::InetService,
            Value::Mark(_) => self == Self::Mark,
            Value::Number(_) => self == Self::Number,
            Value::IfName(_) => self == Self::IfName,
        }
    }
}

// === impl Value ===

impl Value {
    /// The value as the key of an interval set is read back: a network, without bits behind its prefix.
    pub(super) fn as_network(&self) -> Self {
        let network = match self {
            Self::Address(address) => Ok(IpNetwork::from(*address)),
            Self::Network(network) => IpNetwork::new(network.network(), network.prefix()),
            other => return other.clone(),
        };
        network.map_or_else(|_| self.clone(), Self::Network)
    }
}
