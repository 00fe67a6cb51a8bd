//! What a change of Services changes in the kernel.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use kernel::{
    Family,
    nft::{Chain, Command, Transaction, elements_delta},
};

use super::{elements::Elements, layout, shared::Need};
use crate::{model::ObjectName, plan::Frontend};

/// What a change of Services changes in the kernel.
#[derive(Debug)]
pub struct Delta {
    family: Family,
    table: &'static str,
    /// The elements that stood for what has changed.
    pub(super) before: Elements,
    /// The elements that should stand in their place.
    pub(super) after: Elements,
    /// A set has to be made anew, as it has not room enough: the whole table has to be compared.
    pub outgrown: bool,
    /// What several Services claim, where a claim is new.
    pub contests: Vec<Contest>,
    new_chains: BTreeMap<String, Chain>,
    old_chains: BTreeSet<String>,
}

/// An address that several Services have, which is a mistake. The first by name has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contest {
    /// What they claim.
    pub frontend: Frontend,
    /// Who does, by name.
    pub services: Vec<ObjectName>,
}

// === impl Contest ===

impl fmt::Display for Contest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = self.services.iter();
        let holder = names.next().map(ToString::to_string).unwrap_or_default();
        let others: Vec<_> = names.map(ToString::to_string).collect();
        write!(
            f,
            "{} is of Service {holder} and of {} too: connections go to {holder}, the first by name; \
             give the others another address or port",
            self.frontend,
            others.join(", ")
        )
    }
}

// === impl Delta ===

impl Delta {
    /// Nothing yet.
    pub(super) fn new(family: Family, table: &'static str) -> Self {
        Self {
            family,
            table,
            before: Elements::default(),
            after: Elements::default(),
            outgrown: false,
            contests: Vec::new(),
            new_chains: BTreeMap::new(),
            old_chains: BTreeSet::new(),
        }
    }

    /// Something is needed for the first time.
    pub(super) fn need(&mut self, need: &Need) {
        self.after.add_need(need);
        self.new_chains.extend(need.chain());
    }

    /// Something is no longer needed.
    pub(super) fn no_longer_need(&mut self, need: &Need) {
        self.before.add_need(need);
        self.old_chains.extend(need.chain().map(|(name, _)| name));
    }

    /// What has to be sent: all at once, but for chains that nothing leads to any more. A kernel before 6.2
    /// does not delete a chain in the batch that deletes the element which led to it.
    pub fn transactions(&self) -> Vec<Transaction> {
        let add = |(name, chain): (&String, &Chain)| Command::AddChain(name.clone(), chain.clone());
        let elements = layout::sets()
            .flat_map(|set| elements_delta(set, self.before.of(set), self.after.of(set)));
        let change = self.new_chains.iter().map(add).chain(elements).collect();
        let clean = self
            .old_chains
            .iter()
            .cloned()
            .map(Command::DeleteChain)
            .collect();
        let transactions = [change, clean].map(|commands| Transaction {
            family: self.family.into(),
            table: self.table.to_owned(),
            commands,
        });
        transactions
            .into_iter()
            .filter(|transaction| !transaction.commands.is_empty())
            .collect()
    }
}
