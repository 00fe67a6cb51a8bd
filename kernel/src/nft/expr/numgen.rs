//! `numgen`: loads a random number (`enum nft_ng_attributes`).

use super::{Expr, Register};
use crate::nft::wire::{Attributes, View};

const TO: u16 = 1;
const MODULUS: u16 = 2;
const KIND: u16 = 3;
const OFFSET: u16 = 4;

/// `NFT_NG_RANDOM`.
const RANDOM: u32 = 1;

pub(super) fn encode(modulus: u32, to: Register) -> Attributes {
    to.put(Attributes::default(), TO)
        .u32(MODULUS, modulus)
        .u32(KIND, RANDOM)
        .u32(OFFSET, 0)
}

pub(super) fn decode(view: View<'_>) -> Option<Expr> {
    let plain = view.u32(KIND)? == RANDOM && view.u32(OFFSET).unwrap_or_default() == 0;
    plain.then_some(())?;
    Some(Expr::Random {
        modulus: view.u32(MODULUS)?,
        to: Register::find(view, TO)?,
    })
}

#[cfg(test)]
pub(super) fn samples() -> Vec<Expr> {
    let to = Register::FIRST;
    vec![Expr::Random { modulus: 3, to }]
}
