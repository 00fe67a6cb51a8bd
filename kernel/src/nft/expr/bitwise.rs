//! `bitwise`: computes `(register & mask) ^ xor` (`enum nft_bitwise_attributes`).

use super::{Expr, Register, constant};
use crate::nft::wire::{Attributes, View};

const FROM: u16 = 1;
const TO: u16 = 2;
const LEN: u16 = 3;
const MASK: u16 = 4;
const XOR: u16 = 5;
const OPERATION: u16 = 6;

/// `NFT_BITWISE_MASK_XOR`.
const MASK_XOR: u32 = 0;

pub(super) fn encode(from: Register, to: Register, mask: &[u8], xor: &[u8]) -> Attributes {
    to.put(from.put(Attributes::default(), FROM), TO)
        .u32(LEN, mask.len() as u32)
        .u32(OPERATION, MASK_XOR)
        .nest(MASK, constant::encode(mask))
        .nest(XOR, constant::encode(xor))
}

pub(super) fn decode(view: View<'_>) -> Option<Expr> {
    // Kernels before 5.5 know one operation only and don't name it.
    let operation = view.u32(OPERATION).unwrap_or(MASK_XOR);
    let (mask, xor) = (constant::find(view, MASK)?, constant::find(view, XOR)?);
    let len = view.u32(LEN)? as usize;
    (operation == MASK_XOR && mask.len() == len && xor.len() == len).then_some(())?;
    Some(Expr::Bitwise {
        from: Register::find(view, FROM)?,
        to: Register::find(view, TO)?,
        mask,
        xor,
    })
}

#[cfg(test)]
pub(super) fn samples() -> Vec<Expr> {
    vec![Expr::Bitwise {
        from: Register::FIRST,
        to: Register::nth(5),
        mask: vec![1; 4],
        xor: vec![0; 4],
    }]
}
