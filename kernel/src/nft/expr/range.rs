//! `range`: ends the rule unless a register is between two constants (`enum nft_range_attributes`).

use super::{Expr, Register, constant};
use crate::nft::wire::{Attributes, View};

const FROM: u16 = 1;
const OPERATOR: u16 = 2;
const FIRST: u16 = 3;
const LAST: u16 = 4;

/// `NFT_RANGE_EQ`: between them, not outside.
const INSIDE: u32 = 0;

pub(super) fn encode(from: Register, first: &[u8], last: &[u8]) -> Attributes {
    from.put(Attributes::default(), FROM)
        .u32(OPERATOR, INSIDE)
        .nest(FIRST, constant::encode(first))
        .nest(LAST, constant::encode(last))
}

pub(super) fn decode(view: View<'_>) -> Option<Expr> {
    (view.u32(OPERATOR)? == INSIDE).then_some(())?;
    Some(Expr::Range {
        from: Register::find(view, FROM)?,
        first: constant::find(view, FIRST)?,
        last: constant::find(view, LAST)?,
    })
}

#[cfg(test)]
pub(super) fn samples() -> Vec<Expr> {
    vec![Expr::Range {
        from: Register::FIRST,
        first: vec![0, 80],
        last: vec![0, 90],
    }]
}
