//! `meta`: loads or sets what is known about the packet (`enum nft_meta_attributes`).

use super::{Expr, Register};
use crate::nft::wire::{Attributes, View};

const TO: u16 = 1;
const KEY: u16 = 2;
const FROM: u16 = 3;

/// What is known about a packet: `enum nft_meta_keys`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaKey {
    /// `meta mark`.
    Mark = 3,
    /// `meta iifname`.
    InputName = 6,
    /// `meta oifname`.
    OutputName = 7,
    /// `meta nfproto`.
    Family = 15,
    /// `meta l4proto`.
    Protocol = 16,
}

// === impl MetaKey ===

impl MetaKey {
    const ALL: [Self; 5] = [
        Self::Mark,
        Self::InputName,
        Self::OutputName,
        Self::Family,
        Self::Protocol,
    ];
}

pub(super) fn encode(key: MetaKey, to: Register) -> Attributes {
    to.put(Attributes::default(), TO).u32(KEY, key as u32)
}

pub(super) fn encode_set(key: MetaKey, from: Register) -> Attributes {
    from.put(Attributes::default().u32(KEY, key as u32), FROM)
}

pub(super) fn decode(view: View<'_>) -> Option<Expr> {
    let number = view.u32(KEY)?;
    let key = MetaKey::ALL.into_iter().find(|key| *key as u32 == number)?;
    match Register::find(view, FROM) {
        Some(from) => Some(Expr::SetMeta { key, from }),
        None => Register::find(view, TO).map(|to| Expr::Meta { key, to }),
    }
}

#[cfg(test)]
pub(super) fn samples() -> Vec<Expr> {
    let load = |key| Expr::Meta {
        key,
        to: Register::FIRST,
    };
    let mut samples: Vec<_> = MetaKey::ALL.into_iter().map(load).collect();
    samples.push(Expr::SetMeta {
        key: MetaKey::Mark,
        from: Register::nth(4),
    });
    samples
}
