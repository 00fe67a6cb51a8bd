//! `ct`: loads something of the packet's connection (`enum nft_ct_attributes`).

use super::{Expr, Register};
use crate::nft::wire::{Attributes, View};

const TO: u16 = 1;
const KEY: u16 = 2;
const DIRECTION: u16 = 3;

/// What is known about a connection: `enum nft_ct_keys`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CtKey {
    /// `ct state`.
    State = 0,
    /// `ct status`.
    Status = 2,
}

// === impl CtKey ===

impl CtKey {
    const ALL: [Self; 2] = [Self::State, Self::Status];
}

pub(super) fn encode(key: CtKey, to: Register) -> Attributes {
    to.put(Attributes::default(), TO).u32(KEY, key as u32)
}

pub(super) fn decode(view: View<'_>) -> Option<Expr> {
    let number = view.u32(KEY)?;
    let key = CtKey::ALL.into_iter().find(|key| *key as u32 == number)?;
    view.lacks(DIRECTION)?;
    let to = Register::find(view, TO)?;
    Some(Expr::Ct { key, to })
}

#[cfg(test)]
pub(super) fn samples() -> Vec<Expr> {
    let to = Register::FIRST;
    CtKey::ALL.map(|key| Expr::Ct { key, to }).to_vec()
}
