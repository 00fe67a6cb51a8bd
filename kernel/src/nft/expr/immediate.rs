//! `immediate`: loads a constant, or decides (`enum nft_immediate_attributes`).

use super::{Expr, Register, constant, register};
use crate::nft::{
    Verdict,
    wire::{Attributes, View, decode_verdict, encode_verdict},
};

const TO: u16 = 1;
const DATA: u16 = 2;

/// `NFTA_DATA_VERDICT`.
const VERDICT: u16 = 2;

pub(super) fn encode(to: Register, value: &[u8]) -> Attributes {
    to.put(Attributes::default(), TO)
        .nest(DATA, constant::encode(value))
}

pub(super) fn encode_decision(verdict: &Verdict) -> Attributes {
    let data = Attributes::default().nest(VERDICT, encode_verdict(verdict));
    Attributes::default()
        .u32(TO, register::VERDICT)
        .nest(DATA, data)
}

pub(super) fn decode(view: View<'_>) -> Option<Expr> {
    if view.u32(TO)? != register::VERDICT {
        return Some(Expr::Immediate {
            to: Register::find(view, TO)?,
            value: constant::find(view, DATA)?,
        });
    }
    let verdict = view.nest(DATA)?.nest(VERDICT)?;
    decode_verdict(verdict).map(Expr::Verdict)
}

#[cfg(test)]
pub(super) fn samples() -> Vec<Expr> {
    vec![
        Expr::Verdict(Verdict::Goto("somewhere".into())),
        Expr::Verdict(Verdict::Return),
        Expr::Immediate {
            to: Register::FIRST,
            value: vec![0, 80],
        },
    ]
}
