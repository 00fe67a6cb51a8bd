//! Elements of sets and maps.

use std::collections::BTreeMap;

use netlink_packet_core::NLM_F_CREATE;

use super::{
    Attributes, Message, View, attributes_of, encode_values,
    interval::{End, Raw, bounds, join_ranges},
    missing, userdata,
    value::{decode_values, decode_verdict, encode_verdict},
};
use crate::{
    netlink::{Reply, Request, Result},
    nft::{Data, Element, Invalid, Key, Set, SetData, TableFamily, check_comment},
};

/// `enum nft_set_elem_list_attributes`.
const TABLE: u16 = 1;
const SET: u16 = 2;
const ELEMENTS: u16 = 3;
/// `NFTA_LIST_ELEM`.
const LIST_ELEMENT: u16 = 1;

/// `enum nft_set_elem_attributes`.
const KEY: u16 = 1;
const DATA: u16 = 2;
const FLAGS: u16 = 3;
const USER_DATA: u16 = 6;
/// How long it stays, which those have that rules add.
const TIMEOUT: u16 = 4;
/// What else an element of another's making can have: expressions, a range of concatenations.
const FOREIGN: [u16; 4] = [7, 9, 10, 11];

/// `NFT_SET_ELEM_INTERVAL_END`.
const INTERVAL_END: u32 = 1;

/// `enum nft_data_attributes`.
const VALUE: u16 = 1;
const VERDICT: u16 = 2;

/// Adds elements: so few that they fit one attribute.
pub(super) fn add_elements(
    family: TableFamily,
    table: &str,
    set: &str,
    elements: &[(&Key, &Element)],
) -> Result<Request, Invalid> {
    let mut list = Attributes::default();
    for (key, element) in elements {
        list = add_element(list, key, element)?;
    }
    Message::NewElements.request(
        NLM_F_CREATE,
        Some(family),
        named(table, set).nest(ELEMENTS, list),
    )
}

/// Deletes elements: so few that they fit one attribute.
pub(super) fn delete_elements(
    family: TableFamily,
    table: &str,
    set: &str,
    keys: &[&Key],
) -> Result<Request, Invalid> {
    let mut list = Attributes::default();
    for key in keys {
        let (first, end) = bounds(key)?;
        list = list.nest(LIST_ELEMENT, key_attribute(&first));
        if let End::Before(end) = end {
            list = list.nest(LIST_ELEMENT, end_attributes(&end));
        }
    }
    Message::DeleteElements.request(0, Some(family), named(table, set).nest(ELEMENTS, list))
}

fn add_element(list: Attributes, key: &Key, element: &Element) -> Result<Attributes, Invalid> {
    check_comment(element.comment.as_deref())?;
    let (first, end) = bounds(key)?;
    let mut attributes = key_attribute(&first);
    if let Some(data) = &element.data {
        attributes = attributes.nest(
            DATA,
            match data {
                Data::Verdict(verdict) => {
                    Attributes::default().nest(VERDICT, encode_verdict(verdict))
                }
                Data::Value(values) => Attributes::default().bytes(VALUE, &encode_values(values)?),
            },
        );
    }
    let user_data = userdata::encode_element(element.comment.as_deref(), end == End::Open);
    if !user_data.is_empty() {
        attributes = attributes.bytes(USER_DATA, &user_data);
    }
    let list = list.nest(LIST_ELEMENT, attributes);
    Ok(match end {
        End::Before(end) => list.nest(LIST_ELEMENT, end_attributes(&end)),
        End::Itself | End::Open => list,
    })
}

fn key_attribute(key: &[u8]) -> Attributes {
    Attributes::default().nest(KEY, Attributes::default().bytes(VALUE, key))
}

fn end_attributes(key: &[u8]) -> Attributes {
    key_attribute(key).u32(FLAGS, INTERVAL_END)
}

fn named(table: &str, set: &str) -> Attributes {
    Attributes::default().text(TABLE, table).text(SET, set)
}

/// Asks for the elements of a set.
pub(in crate::nft) fn dump_elements(
    family: TableFamily,
    table: &str,
    set: &str,
) -> Result<Request, Invalid> {
    Message::GetElements.request(0, Some(family), named(table, set))
}

/// The elements of a set from a whole dump; `None` if there are any that we could not have made.
pub(in crate::nft) fn decode_elements(
    family: TableFamily,
    set: &Set,
    replies: &[Reply],
) -> Result<Option<BTreeMap<Key, Element>>> {
    let mut raw = Vec::new();
    for reply in replies {
        let Some(view) = attributes_of(reply, Message::NewElements, Some(family)) else {
            continue;
        };
        // The kernel ends a dump by a message without a list.
        let Some(list) = view.nest(ELEMENTS) else {
            continue;
        };
        for element in list.nests(LIST_ELEMENT) {
            let bytes = element
                .nest(KEY)
                .and_then(|key| key.find(VALUE))
                .ok_or_else(|| missing("key of an element"))?;
            match decode_raw(set, element, bytes) {
                Some(element) => raw.push(element),
                None => return Ok(None),
            }
        }
    }
    Ok(if set.interval {
        join_ranges(raw)
    } else {
        Some(raw.into_iter().map(|raw| (raw.key, raw.element)).collect())
    })
}

fn decode_raw(set: &Set, view: View<'_>, key: &[u8]) -> Option<Raw> {
    let flags = view.u32(FLAGS).unwrap_or_default();
    let end = flags == INTERVAL_END;
    let timed = view.find(TIMEOUT).is_some() && !set.dynamic;
    let foreign = FOREIGN.iter().any(|kind| view.find(*kind).is_some());
    if flags & !INTERVAL_END != 0 || timed || foreign {
        return None;
    }
    let data = match &set.data {
        Some(types) if !end => Some(decode_data(types, view.nest(DATA)?)?),
        _ => None,
    };
    Some(Raw {
        key: decode_values(&set.key, key)?,
        end,
        element: Element {
            data,
            comment: view.find(USER_DATA).and_then(userdata::comment),
        },
    })
}

fn decode_data(types: &SetData, view: View<'_>) -> Option<Data> {
    match types {
        SetData::Verdict => decode_verdict(view.nest(VERDICT)?).map(Data::Verdict),
        SetData::Value(types) => decode_values(types, view.find(VALUE)?).map(Data::Value),
    }
}
