//! Chains.

use netlink_packet_core::NLM_F_CREATE;

use super::{Attributes, Message, View, attributes_of, missing, required_text, userdata};
use crate::{
    netlink::{Reply, Request, Result},
    nft::{BaseChain, ChainKind, Hook, Invalid, Policy, TableFamily},
};

/// `enum nft_chain_attributes`.
const TABLE: u16 = 1;
const NAME: u16 = 3;
const HOOK: u16 = 4;
const POLICY: u16 = 5;
const KIND: u16 = 7;
const USER_DATA: u16 = 12;

/// `enum nft_hook_attributes`.
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;

/// `NF_DROP`, `NF_ACCEPT`.
const DROP: u32 = 0;
const ACCEPT: u32 = 1;

/// Makes a chain, or changes the policy of one that exists.
pub(super) fn add_chain(
    family: TableFamily,
    table: &str,
    name: &str,
    base: Option<&BaseChain>,
    comment: Option<&str>,
) -> Result<Request, Invalid> {
    let mut attributes = named(table, name);
    if let Some(base) = base {
        let hook = Attributes::default()
            .u32(HOOK_NUMBER, base.hook as u32)
            .u32(HOOK_PRIORITY, base.priority.cast_unsigned());
        attributes = attributes
            .nest(HOOK, hook)
            .u32(
                POLICY,
                match base.policy {
                    Policy::Drop => DROP,
                    Policy::Accept => ACCEPT,
                },
            )
            .text(KIND, base.kind.name());
    }
    let attributes = userdata::commented(attributes, USER_DATA, comment)?;
    Message::NewChain.request(NLM_F_CREATE, Some(family), attributes)
}

pub(super) fn delete_chain(
    family: TableFamily,
    table: &str,
    name: &str,
) -> Result<Request, Invalid> {
    Message::DeleteChain.request(0, Some(family), named(table, name))
}

/// Asks for one chain.
pub(in crate::nft) fn get_chain(
    family: TableFamily,
    table: &str,
    name: &str,
) -> Result<Request, Invalid> {
    Message::GetChain.request(0, Some(family), named(table, name))
}

/// Asks for the chains of all tables of a family; kernels can't be asked for less.
pub(in crate::nft) fn dump_chains(family: TableFamily) -> Result<Request, Invalid> {
    Message::GetChain.request(0, Some(family), Attributes::default())
}

/// A chain's name and base; `None` if the reply is about something else.
pub(in crate::nft) fn decode_chain(
    family: TableFamily,
    table: &str,
    reply: &Reply,
) -> Result<Option<(String, Option<BaseChain>)>> {
    let Some(view) = attributes_of(reply, Message::NewChain, Some(family)) else {
        return Ok(None);
    };
    if required_text(view, TABLE, "table name")? != table {
        return Ok(None);
    }
    let name = required_text(view, NAME, "chain name")?;
    let base = match view.nest(HOOK) {
        None => None,
        Some(hook) => Some(decode_base(view, hook).ok_or_else(|| missing("hook of a chain"))?),
    };
    Ok(Some((name, base)))
}

fn decode_base(view: View<'_>, hook: View<'_>) -> Option<BaseChain> {
    let kind = view.text(KIND)?;
    let number = hook.u32(HOOK_NUMBER)?;
    Some(BaseChain {
        kind: ChainKind::ALL
            .into_iter()
            .find(|known| known.name() == kind)?,
        hook: Hook::ALL.into_iter().find(|hook| *hook as u32 == number)?,
        priority: hook.u32(HOOK_PRIORITY)?.cast_signed(),
        policy: match view.u32(POLICY)? {
            DROP => Policy::Drop,
            ACCEPT => Policy::Accept,
            _ => return None,
        },
    })
}

fn named(table: &str, name: &str) -> Attributes {
    Attributes::default().text(TABLE, table).text(NAME, name)
}
