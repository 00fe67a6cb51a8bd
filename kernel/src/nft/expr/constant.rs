//! Constants that expressions work with: `NFTA_DATA_VALUE`.

use crate::nft::wire::{Attributes, View};

const VALUE: u16 = 1;

/// What an attribute of a constant consists of.
pub(super) fn encode(value: &[u8]) -> Attributes {
    Attributes::default().bytes(VALUE, value)
}

/// The constant in the attribute of a kind.
pub(super) fn find(view: View<'_>, kind: u16) -> Option<Vec<u8>> {
    Some(view.nest(kind)?.find(VALUE)?.to_vec())
}
