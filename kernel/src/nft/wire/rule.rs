//! Rules.

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE};

use super::{Attributes, Message, View, attributes_of, missing, required_text, userdata};
use crate::{
    netlink::{Reply, Request, Result, array_at},
    nfnetlink,
    nft::{Expr, Invalid, ObservedRule, RawRule, Rule, TableFamily, expr, lower},
};

/// `enum nft_rule_attributes`.
const TABLE: u16 = 1;
const CHAIN: u16 = 2;
const HANDLE: u16 = 3;
const EXPRESSIONS: u16 = 4;
const COMPATIBILITY: u16 = 5;
const USER_DATA: u16 = 7;

/// `enum nft_rule_compat_attributes`.
const COMPATIBILITY_PROTOCOL: u16 = 1;
const COMPATIBILITY_FLAGS: u16 = 2;

/// `NFTA_LIST_ELEM`.
const LIST_ELEMENT: u16 = 1;

/// Appends a rule.
pub(super) fn add_rule(
    family: TableFamily,
    table: &str,
    chain: &str,
    rule: &Rule,
) -> Result<Request, Invalid> {
    let attributes = with_expressions(table, chain, &lower(rule, family)?);
    let attributes = userdata::commented(attributes, USER_DATA, rule.comment.as_deref())?;
    Message::NewRule.request(NLM_F_CREATE | NLM_F_APPEND, Some(family), attributes)
}

/// Appends a rule that is given by its expressions.
pub(super) fn add_raw_rule(
    family: TableFamily,
    table: &str,
    chain: &str,
    rule: &RawRule,
) -> Result<Request, Invalid> {
    let attributes = raw(table, chain, rule)?;
    Message::NewRule.request(NLM_F_CREATE | NLM_F_APPEND, Some(family), attributes)
}

/// Puts such a rule in front of all others.
pub(super) fn insert_raw_rule(
    family: TableFamily,
    table: &str,
    chain: &str,
    rule: &RawRule,
) -> Result<Request, Invalid> {
    let attributes = raw(table, chain, rule)?;
    Message::NewRule.request(NLM_F_CREATE, Some(family), attributes)
}

fn raw(table: &str, chain: &str, rule: &RawRule) -> Result<Attributes, Invalid> {
    let mut attributes = with_expressions(table, chain, &rule.expressions);
    if let Some(protocol) = rule.protocol {
        let compatibility = Attributes::default()
            .u32(COMPATIBILITY_PROTOCOL, protocol.into())
            .u32(COMPATIBILITY_FLAGS, 0);
        attributes = attributes.nest(COMPATIBILITY, compatibility);
    }
    userdata::commented(attributes, USER_DATA, rule.comment.as_deref())
}

fn with_expressions(table: &str, chain: &str, expressions: &[Expr]) -> Attributes {
    let list = expressions
        .iter()
        .fold(Attributes::default(), |list, expression| {
            list.nest(LIST_ELEMENT, expr::encode(expression))
        });
    Attributes::default()
        .text(TABLE, table)
        .text(CHAIN, chain)
        .nest(EXPRESSIONS, list)
}

/// Removes all rules of a chain.
pub(super) fn flush_chain(
    family: TableFamily,
    table: &str,
    chain: &str,
) -> Result<Request, Invalid> {
    let attributes = Attributes::default().text(TABLE, table).text(CHAIN, chain);
    Message::DeleteRule.request(0, Some(family), attributes)
}

/// Removes a rule.
pub(super) fn delete_rule(
    family: TableFamily,
    table: &str,
    chain: &str,
    handle: u64,
) -> Result<Request, Invalid> {
    let attributes = Attributes::default()
        .text(TABLE, table)
        .text(CHAIN, chain)
        .bytes(HANDLE, &handle.to_be_bytes());
    Message::DeleteRule.request(0, Some(family), attributes)
}

/// Asks for the rules of a table.
pub(in crate::nft) fn dump_rules(family: TableFamily, table: &str) -> Result<Request, Invalid> {
    Message::GetRule.request(0, Some(family), Attributes::default().text(TABLE, table))
}

/// Asks for the rules of a chain.
pub(in crate::nft) fn dump_rules_of(
    family: TableFamily,
    table: &str,
    chain: &str,
) -> Result<Request, Invalid> {
    let attributes = Attributes::default().text(TABLE, table).text(CHAIN, chain);
    Message::GetRule.request(0, Some(family), attributes)
}

/// A rule and its chain; `None` if the reply is about something else.
pub(in crate::nft) fn decode_rule(
    family: TableFamily,
    table: &str,
    reply: &Reply,
) -> Result<Option<(String, ObservedRule)>> {
    match attributes_of(reply, Message::NewRule, Some(family)) {
        Some(view) => decode_attributes(table, view),
        None => Ok(None),
    }
}

/// The same of the body of a reply to [`dump_rules`] or [`dump_rules_of`].
pub(in crate::nft) fn decode_rule_body(
    table: &str,
    body: &[u8],
) -> Result<Option<(String, ObservedRule)>> {
    match nfnetlink::split(body) {
        Some((_, attributes)) => decode_attributes(table, View::new(attributes)),
        None => Err(missing("header")),
    }
}

fn decode_attributes(table: &str, view: View<'_>) -> Result<Option<(String, ObservedRule)>> {
    if required_text(view, TABLE, "table name")? != table {
        return Ok(None);
    }
    let chain = required_text(view, CHAIN, "chain name")?;
    let handle = view
        .find(HANDLE)
        .and_then(|bytes| array_at(bytes, 0))
        .map(u64::from_be_bytes)
        .ok_or_else(|| missing("rule handle"))?;
    let list = view
        .nest(EXPRESSIONS)
        .ok_or_else(|| missing("expression list"))?;
    let expressions: Vec<Expr> = list.nests(LIST_ELEMENT).map(expr::decode).collect();
    let comment = view.find(USER_DATA).and_then(userdata::comment);
    Ok(Some((
        chain,
        ObservedRule {
            handle,
            expressions,
            comment,
        },
    )))
}
