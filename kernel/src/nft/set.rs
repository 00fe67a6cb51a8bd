//! Sets and maps, and their elements.

use std::{collections::BTreeMap, net::IpAddr};

use super::Verdict;

/// A named set or map with its elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// The type of a key: one field, or several concatenated.
    pub key: Vec<DataType>,
    /// What a key is mapped to; `None` for a plain set.
    pub data: Option<SetData>,
    /// `size`: the most elements that it can hold. It can't be changed while the set exists.
    pub size: u32,
    /// `flags interval`: keys may be prefixes. Only for keys of one field.
    pub interval: bool,
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
    /// `mark`: 32 bits in host byte order; used for numbers such as the slot of an endpoint too.
    Mark,
    /// `ifname`.
    IfName,
}

/// A value of a field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// An address.
    Address(IpAddr),
    /// A network; only in interval sets and as the operand of a match.
    Network(ipnetwork::IpNetwork),
    /// An IP protocol number (6 TCP, 17 UDP, 132 SCTP).
    Protocol(u8),
    /// A port.
    Port(u16),
    /// 32 bits in host byte order.
    Mark(u32),
    /// An interface name.
    IfName(crate::IfName),
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
