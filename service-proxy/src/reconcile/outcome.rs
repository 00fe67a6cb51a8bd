//! What came of an attempt to let the kernel follow.

use std::{
    ops::AddAssign,
    time::{Duration, Instant},
};

use kernel::{
    Family, ipset,
    nft::{Command, Transaction},
};

use crate::{
    dataplane::Failure,
    plan::{iptables::Changes, nftables::Contest},
};

/// What came of an attempt.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What was sent.
    pub sent: Sent,
    /// What went wrong, family by family; it is put right by the next [`Reconciler::resync`](super::Reconciler::resync).
    pub failures: Vec<Failure>,
    /// Addresses that several Services have, where that is new.
    pub contests: Vec<Contest>,
    /// How it went, family by family.
    pub attempts: Vec<Attempt>,
    /// The families in which what is needed no longer could not be removed.
    pub left_over: Vec<Family>,
    /// The families in which a change of some chains of iptables was refused, so that everything was compared.
    pub refused: Vec<Family>,
    /// How many rules there are, by family and table of iptables.
    pub rules: Vec<RuleCount>,
}

/// The rules in a table of iptables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleCount {
    /// The family.
    pub family: Family,
    /// The name of the table.
    pub table: &'static str,
    /// Those that stand for Services.
    pub total: usize,
    /// Those that were written now.
    pub written: usize,
}

/// How it went in one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The family.
    pub family: Family,
    /// How long it took.
    pub took: Duration,
    /// Whether the kernel has everything now.
    pub succeeded: bool,
}

/// How much was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Elements that were added, those that replace others included.
    pub added: usize,
    /// Elements that were deleted, those that others replace included.
    pub deleted: usize,
    /// Other commands: about tables, chains, sets, rules.
    pub others: usize,
    /// Chains of iptables, where that is what is kept.
    pub rewritten: Option<Rewritten>,
    /// Changes of IPVS's virtual and real servers.
    pub servers: usize,
    /// Addresses that the node was given, or that were taken from it.
    pub addresses: usize,
}

/// How many chains of iptables were changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewritten {
    /// Those that were made or filled anew.
    pub written: usize,
    /// Those that were removed.
    pub removed: usize,
    /// Rules in chains of others that were added or deleted.
    pub jumps: usize,
}

// === impl Rewritten ===

impl AddAssign for Rewritten {
    fn add_assign(&mut self, more: Self) {
        self.written += more.written;
        self.removed += more.removed;
        self.jumps += more.jumps;
    }
}

// === impl Outcome ===

impl Outcome {
    /// Takes note of how it went in a family.
    pub(crate) fn attempted(&mut self, family: Family, started: Instant, succeeded: bool) {
        self.attempts.push(Attempt {
            family,
            took: started.elapsed(),
            succeeded,
        });
    }
}

// === impl Sent ===

impl Sent {
    /// Whether nothing was sent.
    pub fn is_empty(&self) -> bool {
        let rewritten = self.rewritten.unwrap_or_default();
        let others = Self {
            rewritten: None,
            ..*self
        };
        others == Self::default() && rewritten == Rewritten::default()
    }

    /// Counts changes of ipsets.
    pub(crate) fn count_members(&mut self, changes: &[ipset::Change]) {
        for change in changes {
            match change {
                ipset::Change::Add(..) => self.added += 1,
                ipset::Change::Delete(..) => self.deleted += 1,
                _ => self.others += 1,
            }
        }
    }

    /// Counts changes of chains of iptables.
    pub(crate) fn count_chains(&mut self, changes: &Changes) {
        let (written, removed) = changes.counts();
        *self.rewritten.get_or_insert_default() += Rewritten {
            written,
            removed,
            jumps: changes.insert.len() + changes.delete.len(),
        };
    }

    /// Counts the commands of a transaction.
    pub(crate) fn count(&mut self, transaction: &Transaction) {
        for command in &transaction.commands {
            match command {
                Command::AddElements(_, elements) => self.added += elements.len(),
                Command::DeleteElements(_, keys) => self.deleted += keys.len(),
                Command::AddSet(_, set) => {
                    self.others += 1;
                    self.added += set.elements.len();
                }
                _ => self.others += 1,
            }
        }
    }
}
