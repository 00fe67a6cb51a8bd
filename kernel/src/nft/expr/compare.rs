//! `cmp`: ends the rule unless a register is (not) equal to a constant (`enum nft_cmp_attributes`).

use super::{Expr, Register, constant};
use crate::nft::wire::{Attributes, View};

const FROM: u16 = 1;
const OPERATOR: u16 = 2;
const DATA: u16 = 3;

/// `enum nft_cmp_ops`.
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;

pub(super) fn encode(from: Register, negated: bool, value: &[u8]) -> Attributes {
    let operator = if negated { NOT_EQUAL } else { EQUAL };
    from.put(Attributes::default(), FROM)
        .u32(OPERATOR, operator)
        .nest(DATA, constant::encode(value))
}

pub(super) fn decode(view: View<'_>) -> Option<Expr> {
    Some(Expr::Compare {
        from: Register::find(view, FROM)?,
        negated: match view.u32(OPERATOR)? {
            EQUAL => false,
            NOT_EQUAL => true,
            _ => return None,
        },
        value: constant::find(view, DATA)?,
    })
}

#[cfg(test)]
pub(super) fn samples() -> Vec<Expr> {
    let compare = |negated| Expr::Compare {
        from: Register::FIRST,
        negated,
        value: vec![1, 2, 3],
    };
    vec![compare(false), compare(true)]
}
