//! The tables that iptables has in nf_tables, read and written without its programs.
//!
//! The text is that of the programs, and so is what stands in the kernel: `iptables-nft-save` prints it as if it
//! had been written by `iptables-nft-restore`. What only a program knows is left to the program.

mod base;
mod commands;
mod lines;

use std::collections::{BTreeMap, BTreeSet};

use self::lines::Section;
use super::{Chain, Error, Iptables, Result, Table, rule::Rule};
use crate::{
    Family,
    nft::{BaseChain, Command, Expr, Handle, ObservedRule, Policy, Transaction, Verdict},
};

/// Rules in one transaction. The longest has less than a kilobyte, and 16 MiB fit a socket's buffer.
const RULES: usize = 10_000;
/// Up to so many chains are asked for one by one.
const FEW: usize = 100;
/// How often tables are read again that change while they are read.
const ATTEMPTS: usize = 10;

/// The tables of a family in nf_tables.
#[derive(Debug)]
pub struct NativeTables<'a> {
    handle: &'a mut Handle,
    programs: &'a Iptables,
}

// === impl NativeTables ===

impl<'a> NativeTables<'a> {
    /// Works by way of a handle; what that can't do is done by some programs of [`Backend::Nft`](super::Backend).
    pub fn new(handle: &'a mut Handle, programs: &'a Iptables) -> Self {
        Self { handle, programs }
    }

    /// Does what [`Iptables::restore`] does. Each table is changed at once, but for a text of more than ten
    /// thousand rules: then each chain is, and what leads to chains comes after what is in them.
    ///
    /// Answers with how many transactions that took; `None` if a program did it.
    ///
    /// # Errors
    /// If the kernel refuses something; by then, some of a large text may have been carried out.
    pub fn restore(&mut self, text: &str) -> Result<Option<u32>> {
        let family = self.programs.family();
        let Some(sections) = lines::parse(text, family) else {
            return self.programs.restore(text).map(|()| None);
        };
        let mut transactions = 0;
        for section in &sections {
            transactions += self.carry_out(section)?;
        }
        Ok(Some(transactions))
    }

    /// Reads those of some tables that are there, by name. A rule that has no words here is told by its handle
    /// and the chain that it leads to.
    ///
    /// # Errors
    /// If the kernel can't be asked, or the tables keep changing.
    pub fn save_tables(&mut self, names: &[&str]) -> Result<BTreeMap<String, Table>> {
        let mut before = self.handle.generation()?;
        for _ in 0..ATTEMPTS {
            let tables = self.save_once(names)?;
            let after = self.handle.generation()?;
            if before == after {
                return Ok(tables);
            }
            before = after;
        }
        let cause = crate::netlink::Error::KeepsChanging;
        Err(crate::Error::new("nft list ruleset", cause).into())
    }

    /// Whether a table has a chain, at the cost of one message.
    ///
    /// # Errors
    /// If the kernel can't be asked; a table that is missing has no chain.
    pub fn has_chain(&mut self, table: &str, chain: &str) -> Result<bool> {
        let family = self.programs.family();
        Ok(self.handle.has_chain(family, table, chain)?)
    }

    fn save_once(&mut self, names: &[&str]) -> Result<BTreeMap<String, Table>> {
        let mut tables = BTreeMap::new();
        for &name in names {
            let table = self.read(name)?;
            if !table.chains.is_empty() {
                tables.insert(name.to_owned(), table);
            }
        }
        Ok(tables)
    }

    fn read(&mut self, name: &str) -> Result<Table> {
        let family = self.programs.family();
        let chains = self.handle.chains(family, name)?;
        let mut rules: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let read = self.handle.rules(family, name, None, |chain, rule| {
            (chain, text(&rule, family))
        })?;
        for (chain, rule) in read {
            rules.entry(chain).or_default().push(rule);
        }
        let chains = chains.into_iter().map(|(name, base)| Chain {
            rules: rules.remove(&name).unwrap_or_default(),
            policy: base.map(policy),
            name,
        });
        Ok(Table {
            chains: chains.collect(),
        })
    }

    fn carry_out(&mut self, section: &Section<'_>) -> Result<u32> {
        let family = self.programs.family();
        let standing = self.standing(section)?;
        let mut deleted = Vec::new();
        for (chain, rule) in &section.delete {
            deleted.push(self.find(section.table, chain, rule)?);
        }
        let steps = commands::of(section, &standing, deleted);
        let mut transactions = 0;
        for commands in commands::portions(steps, RULES) {
            let transaction = Transaction {
                family: family.into(),
                table: section.table.to_owned(),
                commands,
            };
            self.handle.apply(&transaction)?;
            transactions += 1;
        }
        Ok(transactions)
    }

    /// Which of the chains that a section is about there are. Single ones are asked for, as all of a large table
    /// take longer than a change of a few.
    fn standing(&mut self, section: &Section<'_>) -> Result<BTreeSet<String>> {
        let family = self.programs.family();
        let names: Vec<&str> = section.involved().collect();
        if names.len() > FEW {
            let chains = self.handle.chains(family, section.table)?;
            return Ok(chains.into_iter().map(|(name, _)| name).collect());
        }
        let mut standing = BTreeSet::new();
        for name in names {
            if self.handle.has_chain(family, section.table, name)? {
                standing.insert(name.to_owned());
            }
        }
        Ok(standing)
    }

    /// The command that deletes the first rule of a chain that is as a text says.
    fn find(&mut self, table: &str, chain: &str, rule: &str) -> Result<Command> {
        let family = self.programs.family();
        let wanted = Rule::parse(rule, family).map(|it| it.text(family));
        let wanted = wanted.as_deref().unwrap_or(rule);
        let rules = self.handle.rules(family, table, Some(chain), |_, it| {
            (it.handle, text(&it, family))
        })?;
        let found = rules.into_iter().find(|(_, text)| text == wanted);
        found
            .map(|(handle, _)| Command::DeleteRule(chain.to_owned(), handle))
            .ok_or_else(|| Error::Refused {
                command: format!("nft delete rule {family} {table} {chain}"),
                stderr: "there is no such rule".into(),
                line: Some(format!("-D {chain} {rule}")),
            })
    }
}

/// A rule in the programs' words, or how it is told where it has none.
fn text(rule: &ObservedRule, family: Family) -> String {
    if let Some(known) = Rule::of_observed(rule, family) {
        return known.text(family);
    }
    let leads_to = rule
        .expressions
        .iter()
        .find_map(|expression| match expression {
            Expr::Verdict(Verdict::Jump(chain) | Verdict::Goto(chain)) => Some(chain),
            _ => None,
        });
    let handle = rule.handle;
    match leads_to {
        Some(chain) => format!("-m nft --handle {handle} -j {chain}"),
        None => format!("-m nft --handle {handle}"),
    }
}

fn policy(base: BaseChain) -> String {
    match base.policy {
        Policy::Accept => "ACCEPT".into(),
        Policy::Drop => "DROP".into(),
    }
}
