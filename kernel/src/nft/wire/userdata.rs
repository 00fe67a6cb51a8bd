//! User data: what nft(8) keeps beside objects for itself, and the kernel only stores.
//!
//! The format is libnftnl's `udata.h`: kind and length of a byte each, then the value; numbers are in host
//! byte order. It is written so that `nft list ruleset` shows our tables as if nft had made them.

use super::attribute::{Attributes, until_nul};
use crate::nft::{DataType, Invalid, Set, SetData, check_comment};

/// `NFTNL_UDATA_RULE_COMMENT`, and that of tables, chains and elements.
const COMMENT: u8 = 0;
/// `NFTNL_UDATA_SET_ELEM_FLAGS` and its bit for a range without an end.
const ELEMENT_FLAGS: u8 = 1;
const INTERVAL_OPEN: u32 = 1;

/// `enum nftnl_udata_set_types`.
const SET_KEY_BYTE_ORDER: u8 = 0;
const SET_DATA_BYTE_ORDER: u8 = 1;
const SET_KEY_TYPEOF: u8 = 3;
const SET_DATA_TYPEOF: u8 = 4;
const SET_COMMENT: u8 = 7;

/// `enum nftnl_udata_set_typeof_types`.
const TYPEOF_EXPRESSION: u8 = 0;
const TYPEOF_DATA: u8 = 1;

/// nft's `enum expr_types`, `enum proto_desc_id` and the fields of headers by their place: part of the
/// format since nft 0.9.4.
const EXPRESSION_PAYLOAD: u32 = 7;
const EXPRESSION_META: u32 = 9;
const EXPRESSION_CONCATENATION: u32 = 13;
const EXPRESSION_NUMGEN: u32 = 23;
const HEADER_TH: u32 = 11;
const TH_DPORT: u32 = 2;
const HEADER_IP: u32 = 12;
const IP_DADDR: u32 = 12;
const HEADER_IP6: u32 = 13;
const IP6_DADDR: u32 = 9;
const META_MARK: u32 = 3;
const META_IIFNAME: u32 = 6;
const META_L4PROTO: u32 = 16;
const NUMGEN_RANDOM: u32 = 1;

/// A list of kind, length and value, being written.
#[derive(Default)]
struct UserData(Vec<u8>);

// === impl UserData ===

impl UserData {
    /// No value of ours is longer than 255 bytes: comments have 128 at the most, and a key six fields.
    fn bytes(mut self, kind: u8, value: &[u8]) -> Self {
        self.0.extend([kind, value.len() as u8]);
        self.0.extend_from_slice(value);
        self
    }

    fn u32(self, kind: u8, value: u32) -> Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    fn text(self, kind: u8, text: &str) -> Self {
        let mut value = text.as_bytes().to_vec();
        value.push(0);
        self.bytes(kind, &value)
    }

    fn comment(self, kind: u8, comment: Option<&str>) -> Self {
        match comment {
            Some(comment) => self.text(kind, comment),
            None => self,
        }
    }

    /// Numbers by their place in the list.
    fn numbers(numbers: &[u32]) -> Self {
        (0u8..)
            .zip(numbers)
            .fold(Self::default(), |data, (place, number)| {
                data.u32(place, *number)
            })
    }
}

/// Adds the user data of a table, chain or rule that has a comment.
pub(super) fn commented(
    attributes: Attributes,
    kind: u16,
    comment: Option<&str>,
) -> Result<Attributes, Invalid> {
    check_comment(comment)?;
    Ok(match comment {
        Some(_) => attributes.bytes(kind, &UserData::default().comment(COMMENT, comment).0),
        None => attributes,
    })
}

/// User data of an element; empty if there is no need for any.
pub(super) fn encode_element(comment: Option<&str>, open_interval: bool) -> Vec<u8> {
    let data = UserData::default().comment(COMMENT, comment);
    let data = if open_interval {
        data.u32(ELEMENT_FLAGS, INTERVAL_OPEN)
    } else {
        data
    };
    data.0
}

/// The comment of a rule or an element.
pub(super) fn comment(user_data: &[u8]) -> Option<String> {
    until_nul(find(user_data, COMMENT)?)
}

/// The comment of a set.
pub(super) fn set_comment(user_data: &[u8]) -> Option<String> {
    until_nul(find(user_data, SET_COMMENT)?)
}

/// User data of a set: byte orders; where a type has no name that nft reads back, an expression of that
/// type; and the comment.
pub(super) fn encode_set(set: &Set) -> Vec<u8> {
    let mut data = UserData::default().u32(SET_KEY_BYTE_ORDER, byte_order(&set.key));
    let values = match &set.data {
        None => &[],
        Some(SetData::Verdict) => {
            data = data.u32(SET_DATA_BYTE_ORDER, 0);
            &[]
        }
        Some(SetData::Value(types)) => {
            data = data.u32(SET_DATA_BYTE_ORDER, byte_order(types));
            types.as_slice()
        }
    };
    if set.needs_typeof() {
        data = data.bytes(SET_KEY_TYPEOF, &type_of(&set.key).0);
        if !values.is_empty() {
            data = data.bytes(SET_DATA_TYPEOF, &type_of(values).0);
        }
    }
    data.comment(SET_COMMENT, set.comment.as_deref()).0
}

/// nft's `enum byteorder`: 0 where there is none or more than one, 1 host, 2 big endian.
fn byte_order(types: &[DataType]) -> u32 {
    match types {
        [DataType::Mark | DataType::Number | DataType::IfName] => 1,
        [DataType::Ipv4Addr | DataType::Ipv6Addr | DataType::InetService] => 2,
        _ => 0,
    }
}

/// An expression that has the type, as `typeof` wants it.
fn type_of(types: &[DataType]) -> UserData {
    match types {
        [single] => expression(*single),
        several => {
            let fields = (0u8..)
                .zip(several)
                .fold(UserData::default(), |data, (place, kind)| {
                    data.bytes(place, &expression(*kind).0)
                });
            UserData::default()
                .u32(TYPEOF_EXPRESSION, EXPRESSION_CONCATENATION)
                .bytes(TYPEOF_DATA, &fields.0)
        }
    }
}

fn expression(kind: DataType) -> UserData {
    let (expression, data) = match kind {
        DataType::Ipv4Addr => (
            EXPRESSION_PAYLOAD,
            UserData::numbers(&[HEADER_IP, IP_DADDR]),
        ),
        DataType::Ipv6Addr => (
            EXPRESSION_PAYLOAD,
            UserData::numbers(&[HEADER_IP6, IP6_DADDR]),
        ),
        DataType::InetService => (
            EXPRESSION_PAYLOAD,
            UserData::numbers(&[HEADER_TH, TH_DPORT]),
        ),
        DataType::InetProto => (EXPRESSION_META, UserData::numbers(&[META_L4PROTO])),
        DataType::Mark => (EXPRESSION_META, UserData::numbers(&[META_MARK])),
        DataType::IfName => (EXPRESSION_META, UserData::numbers(&[META_IIFNAME])),
        DataType::Number => (
            EXPRESSION_NUMGEN,
            UserData::numbers(&[NUMGEN_RANDOM, u32::MAX, 0]),
        ),
    };
    UserData::default()
        .u32(TYPEOF_EXPRESSION, expression)
        .bytes(TYPEOF_DATA, &data.0)
}

/// The value of the first entry of a kind.
fn find(user_data: &[u8], kind: u8) -> Option<&[u8]> {
    let mut rest = user_data;
    while let [found, len, tail @ ..] = rest {
        let value = tail.get(..usize::from(*len))?;
        if *found == kind {
            return Some(value);
        }
        rest = tail.get(value.len()..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_found_beside_other_things() {
        let data = encode_element(Some("why"), true);
        assert_eq!(comment(&data).as_deref(), Some("why"));
        assert_eq!(comment(&encode_element(None, true)), None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_can_be_searched(bytes: Vec<u8>) {
            drop((comment(&bytes), set_comment(&bytes)));
        }
    }
}
