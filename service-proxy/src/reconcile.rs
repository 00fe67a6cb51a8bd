//! Desired against what stands in the kernel.
//!
//! A change of Services sends only their elements. At the start, after any failure, when a set is too small
//! and whenever asked to, the whole table is read, compared, and the differences are sent.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use kernel::{
    Family,
    nft::{Command, Handle, ObservedSet, ObservedTable, Table, Transaction, diff},
};

use crate::{
    dataplane::Failure,
    model::{Catalogue, Here, ObjectName},
    plan::{
        frontends,
        nftables::{Contest, NodeRules, Plan, Surroundings, TABLE},
    },
};

/// What nftables can do: the kernel, or in tests of plans a fake.
pub trait Nftables {
    /// Reads a table; `None` if it does not exist.
    fn read(&mut self, family: Family, table: &str) -> kernel::Result<Option<ObservedTable>>;

    /// Carries out a transaction, all or nothing.
    fn apply(&mut self, transaction: &Transaction) -> kernel::Result<()>;
}

/// Keeps the tables of both families as the Services want them.
#[derive(Debug)]
pub struct Reconciler<K> {
    kernel: K,
    node: String,
    plans: [Plan; 2],
    around: Surroundings,
    /// The families whose table is known to be as the plan had it before the latest change.
    in_step: BTreeSet<Family>,
}

/// What came of an attempt.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What was sent.
    pub sent: Sent,
    /// What went wrong, family by family; it is put right by the next [`Reconciler::resync`].
    pub failures: Vec<Failure>,
    /// Addresses that several Services have, where that is new.
    pub contests: Vec<Contest>,
    /// How it went, family by family.
    pub attempts: Vec<Attempt>,
    /// The families in which what is needed no longer could not be removed.
    pub left_over: Vec<Family>,
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

// === impl Reconciler ===

impl<K: Nftables> Reconciler<K> {
    /// Works on a kernel for a node, with the rules that are the same for all Services.
    pub fn new(
        kernel: K,
        node: impl Into<String>,
        mut rules: impl FnMut(Family) -> NodeRules,
    ) -> Self {
        Self {
            kernel,
            node: node.into(),
            plans: Family::ALL.map(|family| Plan::new(family, rules(family))),
            around: Surroundings::default(),
            in_step: BTreeSet::new(),
        }
    }

    /// Whether the rules are for the node and the networks as they are known by now.
    pub fn is_settled(&self, catalogue: &Catalogue) -> bool {
        self.around == self.around.now(catalogue, &self.node)
    }

    /// The node and the networks that the rules are for.
    pub fn surroundings(&self) -> &Surroundings {
        &self.around
    }

    /// Takes in what has become of Services, and lets the kernel follow.
    pub fn update(&mut self, catalogue: &Catalogue, services: &BTreeSet<ObjectName>) -> Outcome {
        let mut outcome = Outcome::default();
        self.around = self.around.now(catalogue, &self.node);
        let here = Here {
            node: &self.node,
            zone: catalogue.zone(&self.node),
            addresses: &self.around.addresses,
        };
        for plan in &mut self.plans {
            let family = plan.family();
            let started = Instant::now();
            let now = services.iter().map(|name| {
                let service = catalogue.service(name);
                let slices = catalogue.slices_of(name);
                let frontends = service.map(|it| frontends(it, slices, family, here));
                (name.clone(), frontends.unwrap_or_default())
            });
            let mut delta = plan.update(now.collect::<BTreeMap<_, _>>());
            outcome.contests.append(&mut delta.contests);
            let settled = !plan.settle(&self.around);
            let known = self.in_step.contains(&family) && settled && !delta.outgrown;
            // What the kernel refuses is compared with all that it has; that can only be drift.
            let followed = known
                && send(
                    &mut self.kernel,
                    family,
                    &delta.transactions(),
                    &mut outcome,
                )
                .is_ok();
            if !followed {
                synchronise(&mut self.kernel, plan, &mut self.in_step, &mut outcome);
            }
            outcome.attempted(family, started, self.in_step.contains(&family));
        }
        outcome
    }

    /// Takes in what of a family's rules is the same for all Services; answers whether that is new, and the
    /// kernel does not follow before the next [`Reconciler::resync`].
    pub fn set_rules(&mut self, family: Family, rules: NodeRules) -> bool {
        let mut plans = self.plans.iter_mut();
        plans
            .find(|plan| plan.family() == family)
            .is_some_and(|plan| plan.set_rules(rules, &self.around))
    }

    /// Compares everything with the kernel, and puts right what differs.
    pub fn resync(&mut self) -> Outcome {
        let mut outcome = Outcome::default();
        for plan in &mut self.plans {
            let started = Instant::now();
            synchronise(&mut self.kernel, plan, &mut self.in_step, &mut outcome);
            let family = plan.family();
            outcome.attempted(family, started, self.in_step.contains(&family));
        }
        outcome
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

// === impl Nftables for Handle ===

impl Nftables for Handle {
    fn read(&mut self, family: Family, table: &str) -> kernel::Result<Option<ObservedTable>> {
        Self::read(self, family, table)
    }

    fn apply(&mut self, transaction: &Transaction) -> kernel::Result<()> {
        Self::apply(self, transaction)
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

    fn count(&mut self, transaction: &Transaction) {
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

/// Removes our tables with all that is in them; answers with the families that had one.
///
/// # Errors
/// If the kernel refuses to.
pub fn clean_up(kernel: &mut Handle) -> kernel::Result<Vec<Family>> {
    let mut removed = Vec::new();
    for family in Family::ALL {
        if kernel.delete_table_if_present(family, TABLE)? {
            removed.push(family);
        }
    }
    Ok(removed)
}

/// Reads a whole table and sends what differs from the plan.
fn synchronise<K: Nftables>(
    kernel: &mut K,
    plan: &mut Plan,
    in_step: &mut BTreeSet<Family>,
    outcome: &mut Outcome,
) {
    let adopt = !in_step.remove(&plan.family());
    match compare(kernel, plan, adopt)
        .and_then(|differences| send(kernel, plan.family(), &differences, outcome))
    {
        Ok(()) => {
            in_step.insert(plan.family());
        }
        Err(error) => outcome.failures.push(error.into()),
    }
}

/// What differs. Slots are taken over unless the plan knows those that it has given.
pub(crate) fn compare<K: Nftables>(
    kernel: &mut K,
    plan: &mut Plan,
    adopt: bool,
) -> kernel::Result<Vec<Transaction>> {
    let observed = kernel.read(plan.family(), TABLE)?;
    if let Some(have) = observed.as_ref().filter(|_| adopt) {
        plan.adopt(have);
    }
    let mut table = plan.table();
    if let Some(have) = &observed {
        keep_room(have, &mut table);
    }
    Ok(diff(observed.as_ref(), &table))
}

/// Lets a set stay that has more room than it would be made with now: to shrink it, the table would have to
/// be made anew, and again when the cluster has grown back.
fn keep_room(have: &ObservedTable, want: &mut Table) {
    for (name, set) in &mut want.sets {
        if let Some(ObservedSet::Known(have)) = have.sets.get(name) {
            set.size = set.size.max(have.size);
        }
    }
}

fn send<K: Nftables>(
    kernel: &mut K,
    family: Family,
    transactions: &[Transaction],
    outcome: &mut Outcome,
) -> kernel::Result<()> {
    for transaction in transactions {
        let applied = kernel.apply(transaction);
        if applied.is_err() && only_removes(transaction) {
            outcome.left_over.push(family);
        }
        applied?;
        outcome.sent.count(transaction);
    }
    Ok(())
}

/// Whether a transaction does nothing but remove chains and sets that are needed no longer.
fn only_removes(transaction: &Transaction) -> bool {
    let removes = |it: &Command| matches!(it, Command::DeleteChain(_) | Command::DeleteSet(_));
    transaction.commands.iter().all(removes)
}
