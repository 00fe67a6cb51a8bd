//! Desired against what stands in the kernel.
//!
//! A change of Services sends only their elements. At the start, after any failure, when a set is too small
//! and whenever asked to, the whole table is read, compared, and the differences are sent.

mod outcome;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use kernel::{
    Family,
    nft::{Command, Handle, ObservedTable, Transaction},
};

use crate::{
    drift::{CannotWatch, Drift},
    generation::Generation,
    model::{Catalogue, Here, ObjectName},
    plan::{
        frontends,
        nftables::{NodeRules, Plan, Surroundings},
    },
};

pub use outcome::{Attempt, Outcome, Rewritten, RuleCount, Sent};

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
    generation: Generation,
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
                generation: Generation::default(),
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
            self.kernel.generation.forget();
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
        match applied {
            Ok(()) => self.generation.passed(1),
            Err(_) => self.generation.forget(),
        }
        applied
    }

    fn is_as_left(&mut self) -> bool {
        self.generation.is_still(self.kernel.generation())
    }

    fn count_from_now(&mut self) {
        self.generation.count_from(self.kernel.generation());
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

/// Removes a table of a family with all that is in it; answers whether it was there.
///
/// The chain that refuses what has the address of a Service still is emptied before. The kernel empties the maps of a
/// table as it is removed, and unhooks its chains one by one afterwards: for that moment they translate nothing
/// any more, and would refuse a connection that what comes after them serves.
///
/// # Errors
/// If the kernel refuses to.
pub fn remove_table(
    kernel: &mut Handle,
    family: Family,
    table: &str,
    refusing: &str,
) -> kernel::Result<bool> {
    flush_if_present(kernel, family, table, refusing)?;
    kernel.delete_table_if_present(family, table)
}

fn flush_if_present(
    kernel: &mut Handle,
    family: Family,
    table: &str,
    chain: &str,
) -> kernel::Result<()> {
    let flushed = kernel.apply(&Transaction {
        family: family.into(),
        table: table.to_owned(),
        commands: vec![Command::FlushChain(chain.to_owned())],
    });
    match flushed {
        Err(error) if error.is_not_found() => Ok(()),
        others => others,
    }
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
