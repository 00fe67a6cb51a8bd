//! `reject`: answers by an ICMP error (`enum nft_reject_attributes`).

use super::Expr;
use crate::nft::wire::{Attributes, View};

const KIND: u16 = 1;
const CODE: u16 = 2;

pub(super) fn encode(kind: u32, code: u8) -> Attributes {
    Attributes::default().u32(KIND, kind).u8(CODE, code)
}

pub(super) fn decode(view: View<'_>) -> Option<Expr> {
    Some(Expr::Reject {
        kind: view.u32(KIND)?,
        code: view.u8(CODE)?,
    })
}

#[cfg(test)]
pub(super) fn samples() -> Vec<Expr> {
    vec![Expr::Reject { kind: 0, code: 3 }]
}
