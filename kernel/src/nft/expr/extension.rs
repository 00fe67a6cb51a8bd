//! `match` and `target`: what an extension of iptables does (`NFTA_MATCH_*`, `NFTA_TARGET_*`, which have the
//! same numbers).

use super::Expr;
use crate::nft::wire::{Attributes, View};

const NAME: u16 = 1;
const REVISION: u16 = 2;
const INFO: u16 = 3;

/// What an extension of iptables is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtensionKind {
    /// `match`: ends the rule unless the packet is as it says.
    Match,
    /// `target`: does something with the packet.
    Target,
}

// === impl ExtensionKind ===

impl ExtensionKind {
    const ALL: [Self; 2] = [Self::Match, Self::Target];

    /// The expression's name to the kernel.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Match => "match",
            Self::Target => "target",
        }
    }
}

pub(super) fn encode(name: &str, revision: u32, info: &[u8]) -> Attributes {
    Attributes::default()
        .text(NAME, name)
        .u32(REVISION, revision)
        .bytes(INFO, info)
}

pub(super) fn decode(kind: &str, view: View<'_>) -> Option<Expr> {
    Some(Expr::Extension {
        kind: ExtensionKind::ALL
            .into_iter()
            .find(|known| known.name() == kind)?,
        name: view.text(NAME)?,
        revision: view.u32(REVISION)?,
        info: view.find(INFO)?.to_vec(),
    })
}

#[cfg(test)]
pub(super) fn samples() -> Vec<Expr> {
    let extension = |kind, name: &str, revision, info| Expr::Extension {
        kind,
        name: name.into(),
        revision,
        info,
    };
    vec![
        extension(ExtensionKind::Match, "comment", 0, vec![7; 256]),
        extension(ExtensionKind::Target, "DNAT", 2, vec![3; 48]),
    ]
}
