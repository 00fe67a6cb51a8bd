//! Expressions to attributes.

use super::{
    CONTENT, Expr, NAME, bitwise, compare, ct, dynset, extension, fib, immediate, lookup,
    masquerade, meta, nat, numgen, payload, range, reject,
};
use crate::nft::wire::Attributes;

/// `NFTA_EXPR_NAME` and `NFTA_EXPR_DATA` of an expression.
pub(in crate::nft) fn encode(expr: &Expr) -> Attributes {
    Attributes::default()
        .text(NAME, name(expr))
        .nest(CONTENT, content(expr))
}

fn name(expr: &Expr) -> &str {
    match expr {
        Expr::Payload { .. } => "payload",
        Expr::Meta { .. } | Expr::SetMeta { .. } => "meta",
        Expr::Ct { .. } => "ct",
        Expr::Compare { .. } => "cmp",
        Expr::Bitwise { .. } => "bitwise",
        Expr::Lookup { .. } => "lookup",
        Expr::DynSet { .. } => "dynset",
        Expr::Random { .. } => "numgen",
        Expr::Immediate { .. } | Expr::Verdict(_) => "immediate",
        Expr::Dnat { .. } => "nat",
        Expr::Masquerade { .. } => "masq",
        Expr::Reject { .. } => "reject",
        Expr::FibType { .. } => "fib",
        Expr::Range { .. } => "range",
        Expr::Extension { kind, .. } => kind.name(),
        Expr::Counter => "counter",
        Expr::Foreign(name) => name,
    }
}

fn content(expr: &Expr) -> Attributes {
    match expr {
        Expr::Payload {
            header,
            offset,
            len,
            to,
        } => payload::encode(*header, *offset, *len, *to),
        Expr::Meta { key, to } => meta::encode(*key, *to),
        Expr::SetMeta { key, from } => meta::encode_set(*key, *from),
        Expr::Ct { key, to } => ct::encode(*key, *to),
        Expr::Compare {
            from,
            negated,
            value,
        } => compare::encode(*from, *negated, value),
        Expr::Bitwise {
            from,
            to,
            mask,
            xor,
        } => bitwise::encode(*from, *to, mask, xor),
        Expr::Lookup {
            set,
            key,
            to,
            negated,
        } => lookup::encode(set, *key, *to, *negated),
        Expr::DynSet {
            map,
            operation,
            key,
            data,
            timeout,
        } => dynset::encode(map, *operation, *key, *data, *timeout),
        Expr::Random { modulus, to } => numgen::encode(*modulus, *to),
        Expr::Immediate { to, value } => immediate::encode(*to, value),
        Expr::Verdict(verdict) => immediate::encode_decision(verdict),
        Expr::Dnat {
            family,
            address,
            port,
            flags,
        } => nat::encode(*family, *address, *port, *flags),
        Expr::Masquerade { flags } => masquerade::encode(*flags),
        Expr::Reject { kind, code } => reject::encode(*kind, *code),
        Expr::FibType { source, to } => fib::encode(*source, *to),
        Expr::Range { from, first, last } => range::encode(*from, first, last),
        Expr::Extension {
            name,
            revision,
            info,
            ..
        } => extension::encode(name, *revision, info),
        Expr::Counter | Expr::Foreign(_) => Attributes::default(),
    }
}
