//! `masq`: translates the source to an address of the outgoing interface (`enum nft_masq_attributes`).

use super::Expr;
use crate::nft::wire::{Attributes, View};

const FLAGS: u16 = 1;
const PORT_MIN: u16 = 2;

pub(super) fn encode(flags: u32) -> Attributes {
    match flags {
        0 => Attributes::default(),
        flags => Attributes::default().u32(FLAGS, flags),
    }
}

pub(super) fn decode(view: View<'_>) -> Option<Expr> {
    view.lacks(PORT_MIN)?;
    let flags = view.u32(FLAGS).unwrap_or_default();
    Some(Expr::Masquerade { flags })
}

#[cfg(test)]
pub(super) fn samples() -> Vec<Expr> {
    [0, 16].map(|flags| Expr::Masquerade { flags }).to_vec()
}
