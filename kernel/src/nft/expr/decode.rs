//! Attributes to expressions.
//!
//! What has a part that our own rules never have is [`Expr::Foreign`], so that a rule is taken for ours only
//! if it does exactly what ours does.

use super::{
    CONTENT, Expr, NAME, bitwise, compare, ct, dynset, extension, fib, immediate, lookup,
    masquerade, meta, nat, numgen, payload, range, reject,
};
use crate::nft::wire::View;

/// Reads an element of a rule's expression list.
pub(in crate::nft) fn decode(view: View<'_>) -> Expr {
    let name = view.text(NAME).unwrap_or_default();
    let content = view.nest(CONTENT).unwrap_or(View::new(&[]));
    decode_content(&name, content).unwrap_or(Expr::Foreign(name))
}

fn decode_content(name: &str, view: View<'_>) -> Option<Expr> {
    match name {
        "payload" => payload::decode(view),
        "meta" => meta::decode(view),
        "ct" => ct::decode(view),
        "cmp" => compare::decode(view),
        "bitwise" => bitwise::decode(view),
        "lookup" => lookup::decode(view),
        "dynset" => dynset::decode(view),
        "numgen" => numgen::decode(view),
        "immediate" => immediate::decode(view),
        "nat" => nat::decode(view),
        "masq" => masquerade::decode(view),
        "reject" => reject::decode(view),
        "fib" => fib::decode(view),
        "range" => range::decode(view),
        "match" | "target" => extension::decode(name, view),
        "counter" => Some(Expr::Counter),
        _ => None,
    }
}
