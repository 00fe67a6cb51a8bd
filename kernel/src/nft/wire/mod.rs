//! The nfnetlink messages of nf_tables: `linux/netfilter/nf_tables.h` and `nfnetlink.h`.
//!
//! Numbers inside attributes are big-endian; the data of registers is as the kernel has it in memory.

mod attribute;
mod batch;
mod chain;
mod element;
mod interval;
mod rule;
mod set;
mod table;
mod userdata;
mod value;

pub(super) use attribute::{Attributes, View};
pub(super) use batch::{Step, begin, encode, end, steps};
pub(super) use chain::{decode_chain, dump_chains, get_chain};
pub(super) use element::{decode_elements, dump_elements};
pub(super) use rule::{decode_rule, decode_rule_body, dump_rules, dump_rules_of};
pub(super) use set::{decode_set, dump_sets};
pub(super) use table::{decode_generation, decode_table, get_generation, get_table};
pub(super) use value::{decode_verdict, encode_values, encode_verdict, values_len};

use super::{Change, Invalid, TableFamily};
use crate::{
    Family,
    netlink::{Error, Reply, Request, Result},
    nfnetlink::{self, Subsystem},
};

/// `enum nf_tables_msg_types`.
#[derive(Clone, Copy)]
enum Message {
    NewTable = 0,
    GetTable = 1,
    DeleteTable = 2,
    NewChain = 3,
    GetChain = 4,
    DeleteChain = 5,
    NewRule = 6,
    GetRule = 7,
    DeleteRule = 8,
    NewSet = 9,
    GetSet = 10,
    DeleteSet = 11,
    NewElements = 12,
    GetElements = 13,
    DeleteElements = 14,
    NewGeneration = 15,
    GetGeneration = 16,
}

// === impl Message ===

impl Message {
    const fn kind(self) -> u16 {
        Subsystem::Tables.kind(self as u8)
    }

    /// A request of this kind about objects of a family.
    fn request(
        self,
        flags: u16,
        family: Option<TableFamily>,
        attributes: Attributes,
    ) -> Result<Request, Invalid> {
        let attributes = attributes.finish()?;
        let mut body = nfnetlink::header(family.map_or(0, TableFamily::number), 0).to_vec();
        body.extend_from_slice(&attributes);
        Ok(Request {
            kind: self.kind(),
            flags,
            body,
        })
    }
}

/// The attributes of a reply, if it is of the wanted kind and family.
fn attributes_of<'a>(
    reply: &'a Reply,
    message: Message,
    family: Option<TableFamily>,
) -> Option<View<'a>> {
    let (number, attributes) = nfnetlink::split(&reply.body)?;
    let wanted =
        reply.kind == message.kind() && family.is_none_or(|family| family.number() == number);
    wanted.then(|| View::new(attributes))
}

/// The family of a message about a table of a name, or about something in it; `None` for other tables and
/// families.
pub(super) fn family_of_table(reply: &Reply, table: &str) -> Option<Family> {
    /// The first attribute of all that is in a table, and of the table itself (`NFTA_*_TABLE`).
    const TABLE: u16 = 1;
    let (number, attributes) = nfnetlink::split(&reply.body)?;
    let about_tables =
        Subsystem::Tables.sent(reply.kind) && reply.kind != Message::NewGeneration.kind();
    let family = Family::ALL
        .into_iter()
        .find(|family| family.number() == number)?;
    let named = View::new(attributes).text(TABLE)? == table;
    (about_tables && named).then_some(family)
}

/// What a message says was changed; `None` if it is about no table of one family of addresses.
pub(super) fn decode_change(reply: &Reply) -> Option<Change> {
    const TABLE: u16 = 1;
    /// `NFTA_RULE_CHAIN`, `NFTA_CHAIN_NAME`.
    const CHAIN_OF_RULE: u16 = 2;
    const CHAIN: u16 = 3;
    let (_, attributes) = nfnetlink::split(&reply.body)?;
    let view = View::new(attributes);
    let table = view.text(TABLE)?;
    let is = |messages: &[Message]| messages.iter().any(|it| it.kind() == reply.kind);
    let chain = if is(&[Message::NewRule, Message::DeleteRule]) {
        view.text(CHAIN_OF_RULE)
    } else if is(&[Message::NewChain, Message::DeleteChain]) {
        view.text(CHAIN)
    } else {
        None
    };
    Some(Change {
        family: family_of_table(reply, &table)?,
        table,
        chain,
        removed: is(&[
            Message::DeleteTable,
            Message::DeleteChain,
            Message::DeleteRule,
            Message::DeleteSet,
            Message::DeleteElements,
        ]),
    })
}

/// A text attribute that the kernel always sends.
fn required_text(view: View<'_>, kind: u16, what: &str) -> Result<String> {
    view.text(kind).ok_or_else(|| missing(what))
}

fn missing(what: &str) -> Error {
    Error::Malformed(format!("nf_tables message without a readable {what}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::nft::{DataType, Set, SetData};

    /// The attributes of a reply as they could be, and as they could not.
    fn attributes() -> impl Strategy<Value = Vec<u8>> {
        let leaf = prop::collection::vec(any::<u8>(), 0..24);
        let list = leaf.prop_recursive(5, 40, 4, |inner| {
            prop::collection::vec((0u16..16, inner), 0..4).prop_map(|attributes| {
                let list = attributes.into_iter();
                let written = list.fold(Attributes::default(), |list, (kind, payload)| {
                    list.bytes(kind, &payload)
                });
                written.finish().unwrap_or_default()
            })
        });
        prop_oneof![list, prop::collection::vec(any::<u8>(), 0..200)]
    }

    fn decode_all(reply: &Reply, set: &Set) {
        let family = TableFamily::Ip;
        assert_ne!(family_of_table(reply, ""), Some(Family::V6));
        drop(decode_change(reply));
        drop(decode_table(family, "", reply));
        drop(decode_chain(family, "", reply));
        drop(decode_rule(family, "", reply));
        drop(decode_set(family, "", reply));
        drop(decode_elements(family, set, std::slice::from_ref(reply)));
        drop(decode_generation(std::slice::from_ref(reply)));
    }

    proptest! {
        #[test]
        fn any_reply_can_be_decoded(
            message in 0u8..20,
            attributes in attributes(),
            interval: bool,
            size in 0u32..2,
            cut in 0usize..8,
        ) {
            let mut body = nfnetlink::header(TableFamily::Ip.number(), 0).to_vec();
            body.extend(attributes);
            body.truncate(body.len().saturating_sub(cut));
            let kind = Subsystem::Tables.kind(message);
            let data = (size > 0).then_some(SetData::Verdict);
            let key = vec![DataType::Ipv4Addr];
            let set = Set { key, data, size, interval, dynamic: false, comment: None, elements: BTreeMap::new() };
            decode_all(&Reply { kind, flags: 0, body }, &set);
        }
    }
}
