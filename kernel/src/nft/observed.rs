//! Tables as they were read from the kernel.

use std::collections::BTreeMap;

use super::{BaseChain, Expr, Set, TableFamily};

/// A table that stands in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedTable {
    /// Which packets it sees.
    pub family: TableFamily,
    /// Its name.
    pub name: String,
    /// The generation of the network namespace's whole rule set when the table was read: a number that
    /// every change raises, to whatever table.
    pub generation: u32,
    /// `flags dormant`: its chains are not called.
    pub dormant: bool,
    /// Its chains by name.
    pub chains: BTreeMap<String, ObservedChain>,
    /// Its sets and maps by name.
    pub sets: BTreeMap<String, ObservedSet>,
}

/// A chain that stands in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedChain {
    /// Where the kernel calls it; `None` for a chain that is only jumped to.
    pub base: Option<BaseChain>,
    /// Its rules in the order of evaluation.
    pub rules: Vec<ObservedRule>,
}

/// A rule that stands in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedRule {
    /// What the kernel knows it by, for as long as it stands: a number that no other rule of the table has
    /// had.
    pub handle: u64,
    /// What it does.
    pub expressions: Vec<Expr>,
    /// `comment "..."`.
    pub comment: Option<String>,
}

/// A set or map that stands in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObservedSet {
    /// One that could be ours, with its elements.
    Known(Set),
    /// One that is not: of other types, with timeouts of its own, with ranges that are no networks.
    Foreign,
}
