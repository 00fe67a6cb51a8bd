//! Random tables that the kernel can take.
//!
//! Names come from a small stock and mostly mean the same, so that two tables have much in common. Chains
//! fall into groups, one for each kind of hook, and lead to later chains of their group only: there are no
//! loops, and no statement is reached from a hook where it can't be.

mod chains;
mod sets;
mod values;

use kernel::{
    Family,
    nft::{Data, Statement, Table, Verdict},
};
use proptest::{prelude::*, sample::select};

use chains::{GROUPS, chains_of};
use sets::sets;

/// A table of either family.
pub fn table() -> impl Strategy<Value = Table> {
    select(&Family::ALL[..]).prop_flat_map(table_of)
}

/// Two tables of one family and name.
pub fn two_tables() -> impl Strategy<Value = [Table; 2]> {
    select(&Family::ALL[..]).prop_flat_map(|family| [table_of(family), table_of(family)])
}

fn table_of(family: Family) -> impl Strategy<Value = Table> {
    let chains = GROUPS.map(|group| chains_of(family, group)).to_vec();
    (chains, sets(family)).prop_map(move |(groups, sets)| {
        let chains = groups.into_iter().flatten().collect();
        complete(Table {
            family,
            name: "tweed-test".into(),
            chains,
            sets,
        })
    })
}

/// Leaves out what leads to chains and sets that are not in the table.
fn complete(mut table: Table) -> Table {
    let names: Vec<String> = table.chains.keys().cloned().collect();
    let leads_on = |verdict: &Verdict| match verdict {
        Verdict::Jump(chain) | Verdict::Goto(chain) => names.contains(chain),
        _ => true,
    };
    for chain in table.chains.values_mut() {
        for rule in &mut chain.rules {
            rule.statements.retain(|statement| match statement {
                Statement::InSet { set, .. } => table.sets.contains_key(set),
                Statement::VerdictMap { map, .. } | Statement::DnatMap { map, .. } => {
                    table.sets.contains_key(map)
                }
                Statement::Verdict(verdict) => leads_on(verdict),
                _ => true,
            });
        }
        chain.rules.retain(|rule| !rule.statements.is_empty());
    }
    for set in table.sets.values_mut() {
        set.elements.retain(|_, element| match &element.data {
            Some(Data::Verdict(verdict)) => leads_on(verdict),
            _ => true,
        });
    }
    table
}
