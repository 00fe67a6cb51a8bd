//! Desired against what stands in the kernel.
//!
//! A change of Services sends only their elements. At the start, after any failure, when a set is too small
//! and whenever asked to, the whole table is read, compared, and the differences are sent.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::AddAssign,
    time::{Duration, Instant},
};

use kernel::{
    Family, ipset,
    nft::{Command, Handle, ObservedTable, Transaction},
};

use crate::{
    dataplane::Failure,
    drift::{CannotWatch, Drift},
    model::{Catalogue, Here, ObjectName},
    plan::{
        frontends,
        nftables::{Contest, NodeRules, Plan, Surroundings},
    },
};

/// What nftables can do: the kernel, or in tests of plans a fake.
pub trait Nftables {
    /// Reads a table; `None` if it does not exist.
    fn read(&mut self, family: Family, table: &str) -> kernel::Result<Option<ObservedTable>>;

    /// Carries out a transaction, all or nothing.
    fn apply(&mut self, transaction: &Transaction) -> kernel::Result<()>;

    /// A number that every change raises by one, whoever makes it; never 0.
    fn generation(&mut self) -> kernel::Result<u32>;

    /// Watches for what others change, where that is announced.
    ///
    /// # Errors
    /// If the kernel or the runtime refuses.
    fn watch(&self) -> Result<Option<Drift>, CannotWatch> {
        Ok(None)
    }
}

/// Keeps the tables of both families as the Services want them.
#[derive(Debug)]
pub struct Reconciler<K> {
    kernel: Counted<K>,
    node: String,
    plans: [Plan; 2],
    around: Surroundings,
    /// The families whose table is known to be as the plan had it before the latest change.
    in_step: BTreeSet<Family>,
}

/// A kernel whose changes by us are counted, so that those by others show.
#[derive(Debug)]
struct Counted<K> {
    kernel: K,
    /// What the generation is if nobody else has changed anything since everything was compared.
    generation: Option<u32>,
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

// === impl Reconciler ===

impl<K: Nftables> Reconciler<K> {
    /// Works on a kernel for a node, with the rules that are the same for all Services.
    pub fn new(
        kernel: K,
        node: impl Into<String>,
        mut rules: impl FnMut(Family) -> NodeRules,
    ) -> Self {
        Self {
            kernel: Counted {
                kernel,
                generation: None,
            },
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
        if self.in_step.is_empty() {
            self.kernel.count_from_now();
        }
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
            let settled = !plan.settle(&self.around);
            let followed = if settled && self.in_step.contains(&family) {
                let mut delta = plan.update(now.collect::<BTreeMap<_, _>>());
                outcome.contests.append(&mut delta.contests);
                // What the kernel refuses is compared with all that it has; that can only be drift.
                let transactions = delta.transactions();
                !delta.outgrown
                    && send(&mut self.kernel, family, &transactions, &mut outcome).is_ok()
            } else {
                outcome.contests.extend(plan.load(now));
                false
            };
            if !followed {
                synchronise(&mut self.kernel, plan, &mut self.in_step, &mut outcome);
            }
            outcome.attempted(family, started, self.in_step.contains(&family));
        }
        outcome
    }

    /// Watches for what others than this one change in its tables.
    ///
    /// # Errors
    /// If the kernel or the runtime refuses.
    pub fn watch(&self) -> Result<Option<Drift>, CannotWatch> {
        self.kernel.kernel.watch()
    }

    /// Takes in what of a family's rules is the same for all Services; answers whether that is new, and the
    /// kernel does not follow before the next [`Reconciler::resync`].
    pub fn set_rules(&mut self, family: Family, rules: NodeRules) -> bool {
        let mut plans = self.plans.iter_mut();
        let changed = plans
            .find(|plan| plan.family() == family)
            .is_some_and(|plan| plan.set_rules(rules, &self.around));
        if changed {
            self.kernel.forget();
        }
        changed
    }

    /// Compares everything with the kernel, and puts right what differs. Nothing is read where nobody but us
    /// has changed any rule since the last time.
    pub fn resync(&mut self) -> Outcome {
        let mut outcome = Outcome::default();
        let all = self.in_step.len() == self.plans.len();
        if all && self.kernel.is_as_left() {
            for plan in &self.plans {
                outcome.attempted(plan.family(), Instant::now(), true);
            }
            return outcome;
        }
        self.kernel.count_from_now();
        for plan in &mut self.plans {
            let started = Instant::now();
            synchronise(&mut self.kernel, plan, &mut self.in_step, &mut outcome);
            let family = plan.family();
            outcome.attempted(family, started, self.in_step.contains(&family));
        }
        outcome
    }
}

// === impl Counted ===

impl<K: Nftables> Counted<K> {
    fn apply(&mut self, transaction: &Transaction) -> kernel::Result<()> {
        let applied = self.kernel.apply(transaction);
        let next = |generation: u32| generation.wrapping_add(1).max(1);
        self.generation = match applied {
            Ok(()) => self.generation.map(next),
            Err(_) => None,
        };
        applied
    }

    /// Whether nobody else has changed anything. Not where that can't be said.
    fn is_as_left(&mut self) -> bool {
        let generation = self.kernel.generation();
        generation.is_ok_and(|generation| self.generation == Some(generation))
    }

    /// Everything is to be read the next time.
    fn forget(&mut self) {
        self.generation = None;
    }

    /// To be called before everything is read. What others change between this and that is read, and is
    /// taken for a change once more.
    fn count_from_now(&mut self) {
        // Without a generation, everything is read the next time too.
        self.generation = self.kernel.generation().ok();
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

    fn generation(&mut self) -> kernel::Result<u32> {
        Self::generation(self)
    }

    fn watch(&self) -> Result<Option<Drift>, CannotWatch> {
        Drift::open(self).map(Some)
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

/// Removes a table of both families with all that is in it; answers with the families that had it.
///
/// # Errors
/// If the kernel refuses to.
pub fn clean_up(kernel: &mut Handle, table: &str) -> kernel::Result<Vec<Family>> {
    let mut removed = Vec::new();
    for family in Family::ALL {
        if kernel.delete_table_if_present(family, table)? {
            removed.push(family);
        }
    }
    Ok(removed)
}

/// Reads a whole table and sends what differs from the plan.
fn synchronise<K: Nftables>(
    kernel: &mut Counted<K>,
    plan: &mut Plan,
    in_step: &mut BTreeSet<Family>,
    outcome: &mut Outcome,
) {
    let adopt = !in_step.remove(&plan.family());
    match compare(&mut kernel.kernel, plan, adopt)
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
    let observed = kernel.read(plan.family(), plan.table_name())?;
    if let Some(have) = observed.as_ref().filter(|_| adopt) {
        plan.adopt(have);
    }
    Ok(plan.differences(observed.as_ref(), plan.table()))
}

fn send<K: Nftables>(
    kernel: &mut Counted<K>,
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
