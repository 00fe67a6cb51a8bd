//! Rules.

use super::{
    Attributes, Message, NLM_F_APPEND, NLM_F_CREATE, attributes_of, missing, required_text,
    userdata,
};
use crate::{
    netlink::{Reply, Request, Result, array_at},
    nft::{Expr, Invalid, ObservedRule, Rule, TableFamily, expr, lower},
};

/// `enum nft_rule_attributes`.
const TABLE: u16 = 1;
const CHAIN: u16 = 2;
const HANDLE: u16 = 3;
const EXPRESSIONS: u16 = 4;
const USER_DATA: u16 = 7;

/// `NFTA_LIST_ELEM`.
const LIST_ELEMENT: u16 = 1;

/// Appends a rule.
pub(super) fn add_rule(
    family: TableFamily,
    table: &str,
    chain: &str,
    rule: &Rule,
) -> Result<Request, Invalid> {
    let expressions = lower(rule, family)?
        .iter()
        .fold(Attributes::default(), |list, expression| {
            list.nest(LIST_ELEMENT, expr::encode(expression))
        });
    let attributes = Attributes::default()
        .text(TABLE, table)
        .text(CHAIN, chain)
        .nest(EXPRESSIONS, expressions);
    let attributes = userdata::commented(attributes, USER_DATA, rule.comment.as_deref())?;
    Message::NewRule.request(NLM_F_CREATE | NLM_F_APPEND, Some(family), attributes)
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

/// A rule and its chain; `None` if the reply is about something else.
pub(in crate::nft) fn decode_rule(
    family: TableFamily,
    table: &str,
    reply: &Reply,
) -> Result<Option<(String, ObservedRule)>> {
    let Some(view) = attributes_of(reply, Message::NewRule, Some(family)) else {
        return Ok(None);
    };
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
