//! Keys with parts that maps say, and what is done with them.
//!
//! nft(8) up to and with 1.1 can't tell how long the result of a map is, and fails an assertion where one is
//! part of a key. It follows what each register was loaded with, but takes a look-up for the load of one
//! register. So a map of ours has two marks for a key: the first goes to the register before, which is
//! loaded anew afterwards; the second, which counts, goes to a register that nft has seen the packet's mark go to.

use std::time::Duration;

use super::{dnat, load};
use crate::{
    Family,
    netlink::align,
    nft::{DynSetOperation, Expr, Field, LookupTarget, MetaKey, Register, Term, Value},
};

/// Length of a register and of a mark in bytes.
const WORD: usize = 4;

/// Translates to what a map has for a key.
pub(super) fn dnat_terms(key: &[Term], map: &str, family: Family) -> Option<Vec<Expr>> {
    let (mut expressions, first, _) = concatenate(key, 0, family)?;
    expressions.push(look_up(map, first, Register::FIRST)?);
    expressions.push(dnat(family)?);
    Some(expressions)
}

/// Adds or refreshes an element, whose data are zero and a term.
pub(super) fn update(
    map: &str,
    key: &[Term],
    data: &Term,
    timeout: Duration,
    family: Family,
) -> Option<Vec<Expr>> {
    let (mut expressions, first, zero) = concatenate(key, 0, family)?;
    expressions.extend(place(data, zero + WORD, zero + 2 * WORD, family)?);
    expressions.push(Expr::Immediate {
        to: Register::after(zero, WORD)?,
        value: Value::Mark(0).encode().ok()?,
    });
    let timeout = u64::try_from(timeout.as_millis()).ok()?;
    expressions.push(change(map, DynSetOperation::Update, first, zero, timeout)?);
    Some(expressions)
}

/// Deletes an element. The kernel wants data for a map all the same.
pub(super) fn delete(map: &str, key: &[Term], family: Family) -> Option<Vec<Expr>> {
    let (mut expressions, first, data) = concatenate(key, 0, family)?;
    expressions.push(mark(data)?);
    expressions.push(mark(data + WORD)?);
    expressions.push(change(map, DynSetOperation::Delete, first, data, 0)?);
    Some(expressions)
}

/// Loads terms one behind the other, from an offset in bytes on, or a register later where the first one needs
/// that before it. Answers with the offset of the first one and of what is free behind the last; `None` if
/// they do not fit.
fn concatenate(terms: &[Term], from: usize, family: Family) -> Option<(Vec<Expr>, usize, usize)> {
    let first = match terms.first() {
        Some(Term::Mapped { .. }) => from + WORD,
        _ => from,
    };
    let mut places = Vec::with_capacity(terms.len());
    let mut end = first;
    for term in terms {
        places.push((term, end));
        end += len(term, family);
    }
    // Look-ups first, from the last to the first, as each spoils the register before its own.
    let is_field = |term: &Term| matches!(term, Term::Field(_));
    let (fields, mapped): (Vec<_>, Vec<_>) =
        places.into_iter().partition(|(term, _)| is_field(term));
    let mut expressions = Vec::new();
    for (term, at) in mapped.into_iter().rev().chain(fields) {
        expressions.extend(place(term, at, end, family)?);
    }
    Some((expressions, first, end))
}

/// Loads a term; from `free` on registers can be used meanwhile.
fn place(term: &Term, at: usize, free: usize, family: Family) -> Option<Vec<Expr>> {
    match term {
        Term::Field(field) => {
            let to = Register::after(at, field.len(family))?;
            Some(vec![load(*field, family, to)])
        }
        Term::Mapped { key, map } => {
            let (inner, first, _) = concatenate(key, free, family)?;
            let spoilt = Register::after(at.checked_sub(WORD)?, 2 * WORD)?;
            let mut expressions = vec![mark(at)?];
            expressions.extend(inner);
            expressions.push(look_up(map, first, spoilt)?);
            Some(expressions)
        }
    }
}

fn len(term: &Term, family: Family) -> usize {
    match term {
        Term::Field(field) => align(field.len(family)),
        Term::Mapped { .. } => WORD,
    }
}

fn mark(at: usize) -> Option<Expr> {
    let to = Register::after(at, Field::Mark.len(Family::V4))?;
    let key = MetaKey::Mark;
    Some(Expr::Meta { key, to })
}

fn look_up(map: &str, key: usize, to: Register) -> Option<Expr> {
    Some(Expr::Lookup {
        set: map.to_owned(),
        key: Register::after(key, WORD)?,
        to: LookupTarget::Register(to),
        negated: false,
    })
}

fn change(
    map: &str,
    operation: DynSetOperation,
    key: usize,
    data: usize,
    timeout: u64,
) -> Option<Expr> {
    Some(Expr::DynSet {
        map: map.to_owned(),
        operation,
        key: Register::after(key, WORD)?,
        data: Register::after(data, 2 * WORD)?,
        timeout,
    })
}
