//! Sets and maps, without their elements.

use std::collections::BTreeMap;

use netlink_packet_core::NLM_F_CREATE;

use super::{
    Attributes, Message, View, attributes_of, missing, required_text, userdata, values_len,
};
use crate::{
    netlink::{Reply, Request, Result},
    nft::{DataType, Invalid, Key, ObservedSet, Set, SetData, TableFamily, Value, check_comment},
};

/// `enum nft_set_attributes`.
const TABLE: u16 = 1;
const NAME: u16 = 2;
const FLAGS: u16 = 3;
const KEY_TYPE: u16 = 4;
const KEY_LEN: u16 = 5;
const DATA_TYPE: u16 = 6;
const DATA_LEN: u16 = 7;
const DESCRIPTION: u16 = 9;
const ID: u16 = 10;
const USER_DATA: u16 = 13;

/// `NFTA_SET_DESC_SIZE`.
const SIZE: u16 = 1;

/// `enum nft_set_flags`.
const INTERVAL: u32 = 4;
const MAP: u32 = 8;
const TIMEOUT: u32 = 0x10;
const EVAL: u32 = 0x20;
const DYNAMIC: u32 = TIMEOUT | EVAL;

/// `NFT_DATA_VERDICT` as the type of data.
const VERDICT: u32 = 0xffff_ff00;

/// nft's `enum datatypes`, and how many bits one takes in the number of a concatenation.
const DATA_TYPES: [(DataType, u32); 7] = [
    (DataType::Number, 4),
    (DataType::Ipv4Addr, 7),
    (DataType::Ipv6Addr, 8),
    (DataType::InetProto, 12),
    (DataType::InetService, 13),
    (DataType::Mark, 19),
    (DataType::IfName, 41),
];
const DATA_TYPE_BITS: u32 = 6;

/// Makes a set without elements. `id` tells it from the others that the batch makes.
pub(super) fn add_set(
    family: TableFamily,
    table: &str,
    name: &str,
    set: &Set,
    id: u32,
) -> Result<Request, Invalid> {
    check_comment(set.comment.as_deref())?;
    check_keys(set)?;
    let mut attributes = named(table, name)
        .u32(FLAGS, flags(set))
        .u32(KEY_TYPE, type_number(&set.key))
        .u32(KEY_LEN, values_len(&set.key) as u32);
    attributes = match &set.data {
        None => attributes,
        Some(SetData::Verdict) => attributes.u32(DATA_TYPE, VERDICT).u32(DATA_LEN, 0),
        Some(SetData::Value(types)) => attributes
            .u32(DATA_TYPE, type_number(types))
            .u32(DATA_LEN, values_len(types) as u32),
    };
    if set.size > 0 {
        attributes = attributes.nest(DESCRIPTION, Attributes::default().u32(SIZE, set.size));
    }
    let attributes = attributes
        .u32(ID, id)
        .bytes(USER_DATA, &userdata::encode_set(set));
    Message::NewSet.request(NLM_F_CREATE, Some(family), attributes)
}

/// Refuses a single address in an interval set: the kernel would take it for the beginning of a range without
/// an end.
fn check_keys(set: &Set) -> Result<(), Invalid> {
    let single = |key: &&Key| !matches!(key.as_slice(), [Value::Network(_)]);
    match set.elements.keys().find(single) {
        Some(key) if set.interval => Err(Invalid::SingleInInterval(key.clone())),
        _ => Ok(()),
    }
}

pub(super) fn delete_set(family: TableFamily, table: &str, name: &str) -> Result<Request, Invalid> {
    Message::DeleteSet.request(0, Some(family), named(table, name))
}

/// Asks for the sets of a table.
pub(in crate::nft) fn dump_sets(family: TableFamily, table: &str) -> Result<Request, Invalid> {
    Message::GetSet.request(0, Some(family), Attributes::default().text(TABLE, table))
}

/// A set without its elements, and its name; `None` if the reply is about something else.
pub(in crate::nft) fn decode_set(
    family: TableFamily,
    table: &str,
    reply: &Reply,
) -> Result<Option<(String, ObservedSet)>> {
    let Some(view) = attributes_of(reply, Message::NewSet, Some(family)) else {
        return Ok(None);
    };
    if required_text(view, TABLE, "table name")? != table {
        return Ok(None);
    }
    let name = required_text(view, NAME, "set name")?;
    let number = view
        .u32(KEY_TYPE)
        .ok_or_else(|| missing("key type of a set"))?;
    let set = decode_shape(view, number).map_or(ObservedSet::Foreign, ObservedSet::Known);
    Ok(Some((name, set)))
}

/// `None` if it is no set that we could have made.
fn decode_shape(view: View<'_>, key_type: u32) -> Option<Set> {
    let flags = view.u32(FLAGS).unwrap_or_default();
    let data = match view.u32(DATA_TYPE) {
        None => None,
        Some(VERDICT) => Some(SetData::Verdict),
        Some(number) => {
            let types = data_types(number)?;
            (view.u32(DATA_LEN)? as usize == values_len(&types)).then_some(())?;
            Some(SetData::Value(types))
        }
    };
    let key = data_types(key_type)?;
    (view.u32(KEY_LEN)? as usize == values_len(&key)).then_some(())?;
    let set = Set {
        key,
        data,
        size: view
            .nest(DESCRIPTION)
            .and_then(|description| description.u32(SIZE))
            .unwrap_or_default(),
        interval: flags & INTERVAL != 0,
        dynamic: flags & DYNAMIC == DYNAMIC,
        comment: view.find(USER_DATA).and_then(userdata::set_comment),
        elements: BTreeMap::new(),
    };
    (self::flags(&set) == flags).then_some(set)
}

fn flags(set: &Set) -> u32 {
    let interval = if set.interval { INTERVAL } else { 0 };
    let map = if set.data.is_some() { MAP } else { 0 };
    let dynamic = if set.dynamic { DYNAMIC } else { 0 };
    interval | map | dynamic
}

/// The number of a type; of several, six bits each, the first one highest.
fn type_number(types: &[DataType]) -> u32 {
    types.iter().fold(0, |number, kind| {
        let own = DATA_TYPES
            .iter()
            .find(|(known, _)| known == kind)
            .map_or(0, |(_, own)| *own);
        number << DATA_TYPE_BITS | own
    })
}

/// The reverse of [`type_number`].
fn data_types(number: u32) -> Option<Vec<DataType>> {
    let mut types = Vec::new();
    let mut rest = number;
    while rest != 0 {
        let own = rest & ((1 << DATA_TYPE_BITS) - 1);
        types.push(DATA_TYPES.iter().find(|(_, number)| *number == own)?.0);
        rest >>= DATA_TYPE_BITS;
    }
    types.reverse();
    (!types.is_empty()).then_some(types)
}

fn named(table: &str, name: &str) -> Attributes {
    Attributes::default().text(TABLE, table).text(NAME, name)
}
