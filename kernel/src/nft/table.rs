//! Tables.

use std::collections::BTreeMap;

use super::{Chain, Set};
use crate::Family;

/// A table of the `ip` or `ip6` family with all that is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// `ip` or `ip6`.
    pub family: Family,
    /// Its name.
    pub name: String,
    /// Its chains by name.
    pub chains: BTreeMap<String, Chain>,
    /// Its sets and maps by name.
    pub sets: BTreeMap<String, Set>,
}
