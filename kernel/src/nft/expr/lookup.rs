//! `lookup`: looks registers up in a set or map (`enum nft_lookup_attributes`).

use super::{Expr, Register, register};
use crate::nft::wire::{Attributes, View};

const SET: u16 = 1;
const KEY: u16 = 2;
const TO: u16 = 3;
const FLAGS: u16 = 5;

/// `NFT_LOOKUP_F_INV`.
const INVERTED: u32 = 1;

/// What becomes of the data that a map has for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupTarget {
    /// There is none: a set.
    Nothing,
    /// It is the verdict.
    Verdict,
    /// It is loaded.
    Register(Register),
}

pub(super) fn encode(set: &str, key: Register, to: LookupTarget, negated: bool) -> Attributes {
    let list = key.put(Attributes::default().text(SET, set), KEY);
    let list = match to {
        LookupTarget::Nothing => list,
        LookupTarget::Verdict => list.u32(TO, register::VERDICT),
        LookupTarget::Register(register) => register.put(list, TO),
    };
    list.u32(FLAGS, if negated { INVERTED } else { 0 })
}

pub(super) fn decode(view: View<'_>) -> Option<Expr> {
    let flags = view.u32(FLAGS).unwrap_or_default();
    (flags & !INVERTED == 0).then_some(())?;
    Some(Expr::Lookup {
        set: view.text(SET)?,
        key: Register::find(view, KEY)?,
        to: match view.u32(TO) {
            None => LookupTarget::Nothing,
            Some(register::VERDICT) => LookupTarget::Verdict,
            Some(number) => LookupTarget::Register(Register::from_number(number)?),
        },
        negated: flags == INVERTED,
    })
}

#[cfg(test)]
pub(super) fn samples() -> Vec<Expr> {
    let lookup = |set: &str, to, negated| Expr::Lookup {
        set: set.into(),
        key: Register::nth(15),
        to,
        negated,
    };
    vec![
        lookup("a", LookupTarget::Verdict, false),
        lookup("b", LookupTarget::Nothing, true),
        lookup("c", LookupTarget::Register(Register::nth(8)), false),
    ]
}
