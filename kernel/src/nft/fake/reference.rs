//! What refers to what.

use std::collections::BTreeSet;

use nix::errno::Errno;

use super::{Refused, refuse};
use crate::nft::{Data, Expr, ObservedSet, ObservedTable, Set, Verdict};

/// The chains that rules and elements name.
pub(super) fn chains(table: &ObservedTable) -> BTreeSet<&str> {
    let rules = expressions(table).filter_map(|expr| match expr {
        Expr::Verdict(verdict) => target(verdict),
        _ => None,
    });
    let elements = table.sets.values().filter_map(|set| match set {
        ObservedSet::Known(set) => Some(chains_of_elements(set)),
        ObservedSet::Foreign => None,
    });
    rules
        .chain(elements.flatten())
        .map(String::as_str)
        .collect()
}

/// The sets that rules name.
pub(super) fn sets(table: &ObservedTable) -> BTreeSet<&str> {
    expressions(table)
        .filter_map(|expr| match expr {
            Expr::Lookup { set, .. } | Expr::DynSet { map: set, .. } => Some(set.as_str()),
            _ => None,
        })
        .collect()
}

/// The chains that the elements of a verdict map name.
pub(super) fn chains_of_elements(set: &Set) -> impl Iterator<Item = &String> {
    set.elements
        .values()
        .filter_map(|element| match &element.data {
            Some(Data::Verdict(verdict)) => target(verdict),
            _ => None,
        })
}

/// The chain that a verdict goes on in.
pub(super) fn target(verdict: &Verdict) -> Option<&String> {
    match verdict {
        Verdict::Jump(chain) | Verdict::Goto(chain) => Some(chain),
        Verdict::Accept | Verdict::Drop | Verdict::Return => None,
    }
}

/// Refuses a verdict that goes on in a chain which is not there, or is called by the kernel only.
pub(super) fn check_target(table: &ObservedTable, verdict: &Verdict) -> Refused {
    let Some(name) = target(verdict) else {
        return Ok(());
    };
    match table.chains.get(name) {
        None => Err(refuse(Errno::ENOENT, format!("no such chain: {name}"))),
        Some(chain) if chain.base.is_some() => {
            Err(refuse(Errno::EOPNOTSUPP, format!("{name} is a base chain")))
        }
        Some(_) => Ok(()),
    }
}

fn expressions(table: &ObservedTable) -> impl Iterator<Item = &Expr> {
    table
        .chains
        .values()
        .flat_map(|chain| &chain.rules)
        .flat_map(|rule| &rule.expressions)
}
