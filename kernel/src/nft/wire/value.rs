//! Values and verdicts as the kernel keeps them in registers and elements.

use std::net::IpAddr;

use super::{Attributes, View, attribute::until_nul};
use crate::{
    netlink::{align, array_at},
    nft::{DataType, Invalid, Value, Verdict},
};

/// `NFTA_VERDICT_CODE`, `NFTA_VERDICT_CHAIN`.
const CODE: u16 = 1;
const CHAIN: u16 = 2;

/// `NF_DROP`, `NF_ACCEPT` and `enum nft_verdicts`.
const DROP: i32 = 0;
const ACCEPT: i32 = 1;
const JUMP: i32 = -3;
const GOTO: i32 = -4;
const RETURN: i32 = -5;

/// `IFNAMSIZ`.
const IF_NAME_LEN: usize = 16;

// === impl DataType ===

impl DataType {
    /// Length of a value in bytes, without padding.
    pub(in crate::nft) const fn len(self) -> usize {
        match self {
            Self::InetProto => 1,
            Self::InetService => 2,
            Self::Ipv4Addr | Self::Mark | Self::Number => 4,
            Self::Ipv6Addr => 16,
            Self::IfName => IF_NAME_LEN,
        }
    }

    fn decode(self, bytes: &[u8]) -> Option<Value> {
        Some(match self {
            Self::Ipv4Addr => Value::Address(IpAddr::from(array_at::<4>(bytes, 0)?)),
            Self::Ipv6Addr => Value::Address(IpAddr::from(array_at::<16>(bytes, 0)?)),
            Self::InetProto => Value::Protocol(*bytes.first()?),
            Self::InetService => Value::Port(u16::from_be_bytes(array_at(bytes, 0)?)),
            Self::Mark => Value::Mark(u32::from_ne_bytes(array_at(bytes, 0)?)),
            Self::Number => Value::Number(u32::from_ne_bytes(array_at(bytes, 0)?)),
            Self::IfName => Value::IfName(until_nul(bytes)?.parse().ok()?),
        })
    }
}

// === impl Value ===

impl Value {
    /// Its bytes, without padding.
    ///
    /// # Errors
    /// For a network, which is two addresses.
    pub(in crate::nft) fn encode(&self) -> Result<Vec<u8>, Invalid> {
        Ok(match self {
            Self::Address(IpAddr::V4(address)) => address.octets().to_vec(),
            Self::Address(IpAddr::V6(address)) => address.octets().to_vec(),
            Self::Network(_) => return Err(Invalid::Network(self.clone())),
            Self::Protocol(number) | Self::Icmpv6Type(number) => vec![*number],
            Self::Port(port) => port.to_be_bytes().to_vec(),
            Self::Mac(mac) => mac.0.to_vec(),
            Self::Mark(number) | Self::Number(number) => number.to_ne_bytes().to_vec(),
            Self::IfName(name) => {
                let mut bytes = name.as_str().as_bytes().to_vec();
                bytes.resize(IF_NAME_LEN, 0);
                bytes
            }
        })
    }
}

/// The bytes of a key or of data: each of several fields is padded to a register of four bytes, a
/// single one is not.
pub(in crate::nft) fn encode_values(values: &[Value]) -> Result<Vec<u8>, Invalid> {
    let mut bytes = Vec::new();
    for value in values {
        bytes.extend(value.encode()?);
        if values.len() > 1 {
            bytes.resize(align(bytes.len()), 0);
        }
    }
    Ok(bytes)
}

/// The reverse of [`encode_values`]; `None` if the bytes are not of these types.
pub(super) fn decode_values(types: &[DataType], bytes: &[u8]) -> Option<Vec<Value>> {
    if bytes.len() != values_len(types) {
        return None;
    }
    let mut rest = bytes;
    types
        .iter()
        .map(|kind| {
            let value = kind.decode(rest);
            rest = rest.get(align(kind.len())..).unwrap_or_default();
            value
        })
        .collect()
}

/// Length of a key or of data of these types in bytes.
pub(in crate::nft) fn values_len(types: &[DataType]) -> usize {
    match types {
        [single] => single.len(),
        several => several.iter().map(|kind| align(kind.len())).sum(),
    }
}

/// `NFTA_DATA_VERDICT`'s content.
pub(in crate::nft) fn encode_verdict(verdict: &Verdict) -> Attributes {
    let (code, chain) = match verdict {
        Verdict::Drop => (DROP, None),
        Verdict::Accept => (ACCEPT, None),
        Verdict::Return => (RETURN, None),
        Verdict::Jump(chain) => (JUMP, Some(chain)),
        Verdict::Goto(chain) => (GOTO, Some(chain)),
    };
    let attributes = Attributes::default().u32(CODE, code.cast_unsigned());
    match chain {
        Some(chain) => attributes.text(CHAIN, chain),
        None => attributes,
    }
}

/// The reverse of [`encode_verdict`]; `None` for a verdict that is none of ours.
pub(in crate::nft) fn decode_verdict(view: View<'_>) -> Option<Verdict> {
    Some(match view.u32(CODE)?.cast_signed() {
        DROP => Verdict::Drop,
        ACCEPT => Verdict::Accept,
        RETURN => Verdict::Return,
        JUMP => Verdict::Jump(view.text(CHAIN)?),
        GOTO => Verdict::Goto(view.text(CHAIN)?),
        _ => return None,
    })
}
