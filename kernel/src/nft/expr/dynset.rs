//! `dynset`: changes a map by what registers hold (`enum nft_dynset_attributes`).

use super::{Expr, Register};
use crate::nft::wire::{Attributes, View};

const SET: u16 = 1;
const OPERATION: u16 = 3;
const KEY: u16 = 4;
const DATA: u16 = 5;
const TIMEOUT: u16 = 6;
const EXPRESSION: u16 = 7;
const EXPRESSIONS: u16 = 10;

/// What a rule does to an element of a map: `enum nft_dynset_ops`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DynSetOperation {
    /// `update`: adds it; one that exists keeps its data and stays for another while.
    Update = 1,
    /// `delete`.
    Delete = 2,
}

// === impl DynSetOperation ===

impl DynSetOperation {
    const ALL: [Self; 2] = [Self::Update, Self::Delete];
}

/// `timeout` in milliseconds; 0: as the map says.
pub(super) fn encode(
    map: &str,
    operation: DynSetOperation,
    key: Register,
    data: Register,
    timeout: u64,
) -> Attributes {
    let list = Attributes::default()
        .text(SET, map)
        .u32(OPERATION, operation as u32);
    let list = data.put(key.put(list, KEY), DATA);
    match timeout {
        0 => list,
        timeout => list.u64(TIMEOUT, timeout),
    }
}

pub(super) fn decode(view: View<'_>) -> Option<Expr> {
    view.lacks(EXPRESSION)?;
    view.lacks(EXPRESSIONS)?;
    let number = view.u32(OPERATION)?;
    Some(Expr::DynSet {
        map: view.text(SET)?,
        operation: DynSetOperation::ALL
            .into_iter()
            .find(|operation| *operation as u32 == number)?,
        key: Register::find(view, KEY)?,
        data: Register::find(view, DATA)?,
        timeout: view.u64(TIMEOUT).unwrap_or_default(),
    })
}

#[cfg(test)]
pub(super) fn samples() -> Vec<Expr> {
    let change = |operation, timeout| Expr::DynSet {
        map: "d".into(),
        operation,
        key: Register::FIRST,
        data: Register::nth(2),
        timeout,
    };
    vec![
        change(DynSetOperation::Update, 10_800_000),
        change(DynSetOperation::Delete, 0),
    ]
}
