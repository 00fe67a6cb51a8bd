//! Sets and elements.

use std::fmt;

use super::separated;
use crate::nft::{Data, DataType, Element, Key, Set, SetData, Value};

/// What stands between the braces of `add set`.
pub(super) struct Definition<'a>(pub &'a Set);

// === impl Definition ===

impl fmt::Display for Definition<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = self.0;
        let by_expression = set.needs_typeof();
        let types = |types: &[DataType]| {
            let names = types.iter().map(|kind| {
                if by_expression {
                    kind.expression()
                } else {
                    kind.name()
                }
            });
            names.collect::<Vec<_>>().join(" . ")
        };
        write!(
            f,
            "{{ {} {}",
            if by_expression { "typeof" } else { "type" },
            types(&set.key)
        )?;
        match &set.data {
            None => {}
            Some(SetData::Verdict) => f.write_str(" : verdict")?,
            Some(SetData::Value(values)) => write!(f, " : {}", types(values))?,
        }
        f.write_str("; ")?;
        if set.size > 0 {
            write!(f, "size {}; ", set.size)?;
        }
        if set.interval {
            f.write_str("flags interval; ")?;
        }
        if set.dynamic {
            f.write_str("flags dynamic,timeout; ")?;
        }
        if let Some(comment) = &set.comment {
            write!(f, "comment \"{comment}\"; ")?;
        }
        f.write_str("}")
    }
}

// === impl DataType ===

impl DataType {
    const fn name(self) -> &'static str {
        match self {
            Self::Ipv4Addr => "ipv4_addr",
            Self::Ipv6Addr => "ipv6_addr",
            Self::InetProto => "inet_proto",
            Self::InetService => "inet_service",
            Self::Mark => "mark",
            Self::Number => "integer",
            Self::IfName => "ifname",
        }
    }

    /// An expression of this type, for `typeof`.
    const fn expression(self) -> &'static str {
        match self {
            Self::Ipv4Addr => "ip daddr",
            Self::Ipv6Addr => "ip6 daddr",
            Self::InetProto => "meta l4proto",
            Self::InetService => "th dport",
            Self::Mark => "meta mark",
            Self::Number => "numgen random mod 4294967295",
            Self::IfName => "iifname",
        }
    }
}

/// An element, or its key only.
pub(super) struct ElementText<'a> {
    pub key: &'a Key,
    pub element: Option<&'a Element>,
}

// === impl ElementText ===

impl fmt::Display for ElementText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        separated(f, " . ", self.key)?;
        let Some(element) = self.element else {
            return Ok(());
        };
        if let Some(comment) = &element.comment {
            write!(f, " comment \"{comment}\"")?;
        }
        match &element.data {
            None => Ok(()),
            Some(Data::Verdict(verdict)) => write!(f, " : {verdict}"),
            Some(Data::Value(values)) => {
                f.write_str(" : ")?;
                separated(f, " . ", values)
            }
        }
    }
}

// === impl Value ===

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Network(network) => write!(f, "{}/{}", network.network(), network.prefix()),
            Self::Protocol(protocol) => match protocol {
                6 => f.write_str("tcp"),
                17 => f.write_str("udp"),
                132 => f.write_str("sctp"),
                other => write!(f, "{other}"),
            },
            Self::Icmpv6Type(number) => write!(f, "{number}"),
            Self::Port(port) => write!(f, "{port}"),
            Self::Mark(mark) => write!(f, "{mark:#010x}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Mac(mac) => write!(f, "{mac}"),
            // An asterisk at the end would stand for any name that begins so.
            Self::IfName(name) => write!(f, "\"{}\"", name.as_str().replace('*', "\\*")),
        }
    }
}
