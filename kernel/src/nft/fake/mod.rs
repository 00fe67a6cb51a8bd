//! The kernel as far as tables go, in memory: for tests of what is to be sent to it.

mod element;
mod reference;
mod rule;
mod walk;

use std::collections::{BTreeMap, BTreeSet};

use nix::errno::Errno;

use super::{
    BaseChain, ObservedChain, ObservedRule, ObservedSet, ObservedTable, RawRule, Rule, Set,
    TableFamily, Transaction, lower,
    text::StepText,
    wire::{Step, steps},
};
use crate::{Error, Result, netlink};

/// Tables in memory. Takes transactions as the kernel does, and refuses what any supported kernel refuses.
#[derive(Clone, Debug)]
pub struct Fake {
    tables: BTreeMap<(TableFamily, String), ObservedTable>,
    generation: u32,
}

/// A transaction that is being carried out.
struct Attempt {
    family: TableFamily,
    name: String,
    table: Option<ObservedTable>,
    /// Chains that an element named which this transaction deletes.
    left: BTreeSet<String>,
}

/// Why a step is refused.
type Refused<T = ()> = Result<T, netlink::Error>;

// === impl Fake ===

impl Fake {
    /// Carries out a transaction, all or nothing.
    ///
    /// # Errors
    /// As [`Handle::apply`](super::Handle::apply), with the error numbers of the kernel.
    pub fn apply(&mut self, transaction: &Transaction) -> Result<()> {
        let (family, name) = (transaction.family, transaction.table.clone());
        let mut attempt = Attempt {
            family,
            table: self.tables.get(&(family, name.clone())).cloned(),
            name: name.clone(),
            left: BTreeSet::new(),
        };
        let steps = steps(transaction);
        for step in &steps {
            let text = StepText {
                family,
                table: &name,
                step,
                short: true,
            };
            attempt
                .step(step)
                .map_err(|error| Error::new(format!("nft {text}"), error))?;
        }
        attempt
            .validate()
            .map_err(|error| Error::new(format!("nft -f - <<< '{transaction}'"), error))?;
        self.generation += u32::from(!steps.is_empty());
        match attempt.table {
            Some(table) => self.tables.insert((family, name), table),
            None => self.tables.remove(&(family, name)),
        };
        Ok(())
    }

    /// A number that every change raises by one.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Reads a table; `None` if it does not exist.
    pub fn read(&self, family: impl Into<TableFamily>, table: &str) -> Option<ObservedTable> {
        let table = self.tables.get(&(family.into(), table.to_owned()))?;
        Some(ObservedTable {
            generation: self.generation,
            ..table.clone()
        })
    }
}

impl Default for Fake {
    /// Without a table, as a new network namespace is, where the kernel begins to count at 1.
    fn default() -> Self {
        Self {
            tables: BTreeMap::new(),
            generation: 1,
        }
    }
}

// === impl Attempt ===

impl Attempt {
    fn step(&mut self, step: &Step<'_>) -> Refused {
        match step {
            Step::AddTable(_) => self.add_table(),
            Step::DeleteTable => self.delete_table(),
            Step::AddChain(name, base, _) => self.add_chain(name, *base),
            Step::FlushChain(name) => self.chain_mut(name).map(|chain| chain.rules.clear()),
            Step::DeleteChain(name) => self.delete_chain(name),
            Step::AddRule(chain, rule) => self.add_rule(chain, rule),
            Step::AddRawRule(chain, rule) => self.add_raw_rule(chain, rule, false),
            Step::InsertRawRule(chain, rule) => self.add_raw_rule(chain, rule, true),
            Step::DeleteRule(chain, handle) => self.delete_rule(chain, *handle),
            Step::AddSet(name, set) => self.add_set(name, set),
            Step::DeleteSet(name) => self.delete_set(name),
            Step::AddElements(set, elements) => elements
                .iter()
                .try_for_each(|(key, element)| self.add_element(set, key, element)),
            Step::DeleteElements(set, keys) => keys
                .iter()
                .try_for_each(|key| self.delete_element(set, key)),
        }
    }

    fn add_table(&mut self) -> Refused {
        let table = self.table.get_or_insert_with(|| ObservedTable {
            family: self.family,
            name: self.name.clone(),
            generation: 0,
            dormant: false,
            chains: BTreeMap::new(),
            sets: BTreeMap::new(),
        });
        table.dormant = false;
        Ok(())
    }

    fn delete_table(&mut self) -> Refused {
        self.table
            .take()
            .ok_or_else(|| refuse(Errno::ENOENT, "no such table"))?;
        self.left.clear();
        Ok(())
    }

    fn add_chain(&mut self, name: &str, base: Option<&BaseChain>) -> Refused {
        let table = self.table_mut()?;
        let Some(chain) = table.chains.get_mut(name) else {
            let chain = ObservedChain {
                base: base.copied(),
                rules: Vec::new(),
            };
            table.chains.insert(name.to_owned(), chain);
            return Ok(());
        };
        match (&mut chain.base, base) {
            (_, None) => Ok(()),
            (Some(have), Some(want))
                if (have.kind, have.hook, have.priority)
                    == (want.kind, want.hook, want.priority) =>
            {
                have.policy = want.policy;
                Ok(())
            }
            _ => Err(refuse(
                Errno::EOPNOTSUPP,
                "the chain exists at another hook, or at none",
            )),
        }
    }

    fn delete_chain(&mut self, name: &str) -> Refused {
        self.chain_mut(name)?.rules.clear();
        if self.left.contains(name) {
            return Err(refuse(
                Errno::EBUSY,
                "kernels before 6.2 don't delete a chain in the batch that deletes the element which named it",
            ));
        }
        let table = self.table_mut()?;
        if reference::chains(table).contains(name) {
            return Err(refuse(Errno::EBUSY, "the chain is referred to"));
        }
        table.chains.remove(name);
        Ok(())
    }

    fn add_rule(&mut self, chain: &str, rule: &Rule) -> Refused {
        let (family, table) = (self.family, self.table_mut()?);
        let expressions = lower(rule, family)?;
        rule::check(table, rule, &expressions)?;
        let rule = ObservedRule {
            handle: next_handle(table),
            expressions,
            comment: rule.comment.clone(),
        };
        self.chain_mut(chain)?.rules.push(rule);
        Ok(())
    }

    fn add_raw_rule(&mut self, chain: &str, rule: &RawRule, first: bool) -> Refused {
        let table = self.table_mut()?;
        rule::check(table, &Rule::default(), &rule.expressions)?;
        let rule = ObservedRule {
            handle: next_handle(table),
            expressions: rule.expressions.clone(),
            comment: rule.comment.clone(),
        };
        let rules = &mut self.chain_mut(chain)?.rules;
        let place = if first { 0 } else { rules.len() };
        rules.insert(place, rule);
        Ok(())
    }

    fn delete_rule(&mut self, chain: &str, handle: u64) -> Refused {
        let rules = &mut self.chain_mut(chain)?.rules;
        let place = rules.iter().position(|rule| rule.handle == handle);
        let place = place.ok_or_else(|| refuse(Errno::ENOENT, "no such rule"))?;
        rules.remove(place);
        Ok(())
    }

    fn add_set(&mut self, name: &str, set: &Set) -> Refused {
        element::check_set(set)?;
        let table = self.table_mut()?;
        let empty = Set {
            elements: BTreeMap::new(),
            ..set.clone()
        };
        match table.sets.get(name) {
            None => {
                table
                    .sets
                    .insert(name.to_owned(), ObservedSet::Known(empty));
                Ok(())
            }
            // Another size is not refused, nor does it change anything.
            Some(ObservedSet::Known(have))
                if (&have.key, &have.data, have.interval, have.dynamic)
                    == (&set.key, &set.data, set.interval, set.dynamic) =>
            {
                Ok(())
            }
            Some(_) => Err(refuse(
                Errno::EEXIST,
                "the set exists with another type or flags",
            )),
        }
    }

    fn delete_set(&mut self, name: &str) -> Refused {
        let table = self.table_mut()?;
        if reference::sets(table).contains(name) {
            return Err(refuse(Errno::EBUSY, "the set is referred to"));
        }
        let set = table
            .sets
            .remove(name)
            .ok_or_else(|| refuse(Errno::ENOENT, "no such set"))?;
        if let ObservedSet::Known(set) = set {
            self.left
                .extend(reference::chains_of_elements(&set).cloned());
        }
        Ok(())
    }

    fn table_mut(&mut self) -> Refused<&mut ObservedTable> {
        self.table
            .as_mut()
            .ok_or_else(|| refuse(Errno::ENOENT, "no such table"))
    }

    fn chain_mut(&mut self, name: &str) -> Refused<&mut ObservedChain> {
        let chain = self.table_mut()?.chains.get_mut(name);
        chain.ok_or_else(|| refuse(Errno::ENOENT, "no such chain"))
    }
}

fn refuse(errno: Errno, message: impl Into<String>) -> netlink::Error {
    netlink::Error::Refused {
        errno,
        message: Some(message.into()),
    }
}
/// A number that no rule of the table has.
fn next_handle(table: &ObservedTable) -> u64 {
    let rules = table.chains.values().flat_map(|chain| &chain.rules);
    let last = rules.map(|rule| rule.handle).max();
    last.map_or(1, |last| last + 1)
}
