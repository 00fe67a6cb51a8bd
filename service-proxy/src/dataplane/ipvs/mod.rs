//! IPVS mode: virtual servers by netlink, with a table of nftables or sets and chains of iptables beside them.
//!
//! A change sends only what differs: the rules that virtual servers need, then these, then the addresses that
//! make the kernel look at them, and at last takes away the rules that are needed no longer. At the start, after
//! a failure and every sync period everything is read and compared: IPVS announces nothing.

mod clean_up;
mod ending;
mod guarding;
mod kernel;
mod look;
mod mode;
mod options;
mod sets;

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::{MutexGuard, PoisonError},
    time::Instant,
};

use ::kernel::{Family, iptables::Backend, ipvs::VirtualServer};

use self::ending::{Ending, LOOK};
pub use self::{
    clean_up::clean_up,
    guarding::Guarding,
    kernel::{Addresses, INTERFACE, Kernel, Machine},
    look::Look,
    mode::{Farewell, Filter, IpvsMode, NotReady, missing, open, prepare},
    options::IpvsOptions,
    sets::remove as remove_sets,
};
use super::{Dataplane, Failure};
use crate::{
    drift::{CannotWatch, Concerns, Drift},
    model::{Catalogue, Here, ObjectName, Protocol},
    plan::{
        TrackedServices, frontends,
        ipvs::{Concern, Former, Guard, Observed, Plan, Settings, Step, TableGuard, Virtuals},
        nftables::{NodeRules, Surroundings},
    },
    reconcile::Outcome,
};

/// Keeps the virtual servers of both families as the Services want them.
#[derive(Debug)]
pub struct Servers<K, G = TableGuard> {
    kernel: K,
    node: String,
    plans: [Plan<G>; 2],
    around: Surroundings,
    /// The node's addresses on other interfaces than ours, as they were seen last.
    addresses: BTreeSet<IpAddr>,
    concerns: Concerns,
    /// The families of which all is known to be as the plan had it before the latest change.
    in_step: BTreeSet<Family>,
    ending: Ending,
    /// Connections to endpoints that serve no longer are reset.
    reset: bool,
    /// Families where others were faster while all was compared, or something was not seen, so that it is to be
    /// compared again.
    overtaken: BTreeSet<Family>,
    /// When.
    again_at: Option<Instant>,
}

/// What stands in the kernel for both families.
#[derive(Debug)]
struct Standing {
    addresses: Addresses,
    servers: Vec<VirtualServer>,
    former: Former,
}

// === impl Servers ===

impl<K: Kernel + Guarding<TableGuard>> Servers<K> {
    /// Works on a kernel for a node, with the rules that are the same for all Services, in a table of nftables. Real
    /// servers that have gone lose their connections as the farewell says.
    pub fn new(
        kernel: K,
        node: impl Into<String>,
        settings: &Settings,
        farewell: Farewell,
        rules: impl FnMut(Family) -> NodeRules,
    ) -> Self {
        let guard = |_, _: &NodeRules| TableGuard;
        Self::with(guard, kernel, node, settings, farewell, rules)
    }
}

impl<K: Kernel + Guarding<G>, G: Guard> Servers<K, G> {
    /// The same, with a guard of each family.
    pub fn with(
        guard: impl Fn(Family, &NodeRules) -> G,
        kernel: K,
        node: impl Into<String>,
        settings: &Settings,
        farewell: Farewell,
        mut rules: impl FnMut(Family) -> NodeRules,
    ) -> Self {
        let plan = |family| {
            let rules = rules(family);
            Plan::with(guard(family, &rules), family, rules, settings.clone())
        };
        Self {
            kernel,
            node: node.into(),
            plans: Family::ALL.map(plan),
            around: Surroundings::default(),
            addresses: BTreeSet::new(),
            concerns: Concerns::default(),
            in_step: BTreeSet::new(),
            ending: Ending::new(farewell.patience),
            reset: farewell.reset,
            overtaken: BTreeSet::new(),
            again_at: None,
        }
    }

    /// Reads all that stands of some families, and puts right what differs.
    fn synchronise(&mut self, families: &BTreeSet<Family>, outcome: &mut Outcome) {
        let standing = match Standing::read(&mut self.kernel) {
            Ok(standing) => standing,
            Err(error) => {
                self.in_step.retain(|family| !families.contains(family));
                return outcome.failures.push(error.into());
            }
        };
        self.addresses.clone_from(&standing.addresses.others);
        let mut concern = lock(&self.concerns);
        concern.bound.clone_from(&standing.addresses.bound);
        drop(concern);
        for plan in &mut self.plans {
            let family = plan.family();
            if !families.contains(&family) {
                continue;
            }
            let adopt = !self.in_step.remove(&family);
            plan.settle(&self.around, &self.addresses);
            let compared = compare(&mut self.kernel, plan, &standing, &self.ending, adopt);
            let done = compared.and_then(|step| {
                carry_out(&mut self.kernel, family, &step, &self.concerns, outcome)
            });
            self.overtaken.remove(&family);
            match done {
                Ok(overtaken) => {
                    plan.confirm();
                    self.in_step.insert(family);
                    let again = overtaken > 0 || plan.doubts();
                    self.overtaken.extend(again.then_some(family));
                }
                Err(failure) => outcome.failures.push(failure),
            }
        }
    }

    /// Takes note of how it went, and of what has only to end.
    fn note(&mut self, started: Instant, outcome: &mut Outcome) {
        self.ending.note(&self.plans);
        self.again_at = (!self.overtaken.is_empty()).then(|| Instant::now() + LOOK);
        let mut concern = lock(&self.concerns);
        self.plans.iter().for_each(|plan| plan.tell(&mut concern));
        drop(concern);
        for family in Family::ALL {
            outcome.attempted(family, started, self.in_step.contains(&family));
        }
    }

    /// Waits no longer for connections to what serves some Services no longer. The kernel forgets them with the
    /// real server (`expire_nodest_conn`), and the node itself answers the client's next packet by a reset.
    fn cut(&mut self, catalogue: &Catalogue, services: &BTreeSet<ObjectName>) {
        for family in Family::ALL {
            let mut tracked = TrackedServices::new(Protocol::Tcp);
            let existing = services.iter().filter_map(|it| catalogue.service(it));
            for service in existing {
                tracked.add(service, catalogue.slices_of(&service.name), family);
            }
            self.ending.cut(|address, real| {
                address.family() == family && tracked.is_gone(address.socket, real)
            });
        }
    }

    /// Carries out what follows, and compares the families that are behind or become so.
    fn finish(
        &mut self,
        steps: Vec<(Family, Step<G::Change>)>,
        mut behind: BTreeSet<Family>,
        outcome: &mut Outcome,
    ) {
        behind.extend(self.follow(steps, outcome));
        if !behind.is_empty() {
            self.synchronise(&behind, outcome);
        }
    }

    /// Carries out what follows from a change; answers with the families that have to be compared.
    fn follow(
        &mut self,
        steps: Vec<(Family, Step<G::Change>)>,
        outcome: &mut Outcome,
    ) -> BTreeSet<Family> {
        let mut refused = BTreeSet::new();
        for (family, step) in steps {
            let done = carry_out(&mut self.kernel, family, &step, &self.concerns, outcome);
            let mut plans = self.plans.iter_mut();
            match plans.find(|plan| plan.family() == family) {
                // What was refused before is not done because something else is.
                Some(plan) if matches!(done, Ok(0)) => {
                    if self.in_step.contains(&family) {
                        plan.confirm();
                    }
                }
                // What is refused, or done already, is compared with all that stands; that can only be drift.
                _ => drop(refused.insert(family)),
            }
        }
        refused
    }
}

impl<K, G> Dataplane for Servers<K, G>
where
    K: Kernel + Guarding<G> + std::fmt::Debug,
    G: Guard,
{
    fn update(&mut self, catalogue: &Catalogue, services: &BTreeSet<ObjectName>) -> Outcome {
        let started = Instant::now();
        let mut outcome = Outcome::default();
        self.around = self.around.now(catalogue, &self.node);
        let here = Here {
            node: &self.node,
            zone: catalogue.zone(&self.node),
            addresses: &self.around.addresses,
        };
        let mut behind = BTreeSet::new();
        let mut steps = Vec::new();
        for plan in &mut self.plans {
            let family = plan.family();
            let now = services.iter().map(|name| {
                let service = catalogue.service(name);
                let slices = catalogue.slices_of(name);
                let now = service.map(|it| {
                    let frontends = frontends(it, slices, family, here);
                    let ports = G::ports(it, family, &frontends);
                    (frontends, ports)
                });
                let (frontends, ports) = now.unwrap_or_default();
                (name.clone(), frontends, ports)
            });
            let settled = !plan.settle(&self.around, &self.addresses);
            if settled && self.in_step.contains(&family) {
                let mut delta = plan.update(now);
                outcome.contests.append(&mut delta.contests);
                if delta.outgrown {
                    behind.insert(family);
                } else {
                    steps.push((family, delta.step));
                }
            } else {
                outcome.contests.extend(plan.load(now));
                behind.insert(family);
            }
        }
        self.finish(steps, behind, &mut outcome);
        self.note(started, &mut outcome);
        if self.reset {
            self.cut(catalogue, services);
        }
        outcome
    }

    fn resync(&mut self) -> Outcome {
        let started = Instant::now();
        let mut outcome = Outcome::default();
        self.synchronise(&Family::ALL.into(), &mut outcome);
        self.note(started, &mut outcome);
        outcome
    }

    fn look_at(&self) -> Option<Instant> {
        self.ending.look_at().into_iter().chain(self.again_at).min()
    }

    fn look(&mut self) -> Outcome {
        let started = Instant::now();
        let mut outcome = Outcome::default();
        let mut behind = std::mem::take(&mut self.overtaken);
        let mut steps = Vec::new();
        for plan in &mut self.plans {
            match leaving(&mut self.kernel, plan, &self.ending) {
                Ok(observed) => steps.push((plan.family(), plan.follow(observed))),
                Err(error) => {
                    behind.insert(plan.family());
                    outcome.failures.push(error.into());
                }
            }
        }
        self.finish(steps, behind, &mut outcome);
        self.note(started, &mut outcome);
        outcome
    }

    fn iptables(&self) -> Option<Backend> {
        self.kernel.iptables()
    }

    fn watch(&self) -> Result<Option<Drift>, CannotWatch> {
        self.kernel.watch_with(&self.concerns)
    }

    fn set_rules(&mut self, family: Family, rules: NodeRules) -> bool {
        let mut plans = self.plans.iter_mut();
        let plan = plans.find(|plan| plan.family() == family);
        plan.is_some_and(|plan| {
            plan.set_rules(rules);
            plan.settle(&self.around, &self.addresses)
        })
    }

    fn is_settled(&self, catalogue: &Catalogue) -> bool {
        self.around == self.around.now(catalogue, &self.node)
    }

    fn surroundings(&self) -> &Surroundings {
        &self.around
    }
}

// === impl Standing ===

impl Standing {
    fn read<K: Kernel>(kernel: &mut K) -> ::kernel::Result<Self> {
        Ok(Self {
            addresses: kernel.addresses()?,
            servers: kernel.virtual_servers()?,
            former: kernel.former()?,
        })
    }
}

/// What differs in a family. The endpoints' places in maps are taken over where the plan has given none yet.
fn compare<K: Kernel + Guarding<G>, G: Guard>(
    kernel: &mut K,
    plan: &mut Plan<G>,
    standing: &Standing,
    ending: &Ending,
    adopt: bool,
) -> Result<Step<G::Change>, Failure> {
    let observed = observe(kernel, plan, standing, ending)?;
    Ok(plan.compare(observed, adopt))
}

/// What stands of a plan's family, as far as it is ours.
fn observe<K: Kernel + Guarding<G>, G: Guard>(
    kernel: &mut K,
    plan: &Plan<G>,
    standing: &Standing,
    ending: &Ending,
) -> Result<Observed<G::Observed>, Failure> {
    let family = plan.family();
    let guard = kernel.observe(family)?;
    let record = G::record(&guard);
    let bound = &standing.addresses.bound;
    let mut virtuals = Virtuals::new();
    for server in &standing.servers {
        let address = server.address;
        if address.family() == family && plan.is_ours(&address, &record, &standing.former, bound) {
            let reals = kernel.real_servers(&address)?;
            virtuals.insert(address, ending.observed(server.clone(), reals));
        }
    }
    let bound = bound.iter().filter(|ip| Family::of(ip) == family);
    Ok(Observed {
        guard,
        record,
        bound: bound.copied().collect(),
        virtuals,
    })
}

/// The virtual servers that wait for the end of connections, as they stand.
fn leaving<K: Kernel, G: Guard>(
    kernel: &mut K,
    plan: &Plan<G>,
    ending: &Ending,
) -> ::kernel::Result<Virtuals> {
    let leaving = plan.leaving().values().map(|it| it.server.clone());
    let read = |server: VirtualServer| {
        let reals = kernel.real_servers(&server.address)?;
        Ok((server.address, ending.observed(server, reals)))
    };
    leaving.map(read).collect()
}

/// Does one after the other; the first refusal ends it, but among virtual servers. Answers with how many changes of
/// these others were faster.
fn carry_out<K: Kernel + Guarding<G>, G: Guard>(
    kernel: &mut K,
    family: Family,
    step: &Step<G::Change>,
    concerns: &Concerns,
    outcome: &mut Outcome,
) -> Result<usize, Failure> {
    send(kernel, family, &step.first, outcome)?;
    let overtaken = kernel.change(&step.servers)?;
    outcome.sent.servers += step.servers.len();
    let mut concern = lock(concerns);
    concern.bound.extend(&step.bind);
    for ip in &step.unbind {
        concern.bound.remove(ip);
    }
    drop(concern);
    kernel.set_addresses(&step.bind, &step.unbind)?;
    outcome.sent.addresses += step.bind.len() + step.unbind.len();
    send(kernel, family, &step.last, outcome)?;
    Ok(overtaken)
}

fn lock(concerns: &Concerns) -> MutexGuard<'_, Concern> {
    concerns.lock().unwrap_or_else(PoisonError::into_inner)
}

fn send<K: Guarding<G>, G: Guard>(
    kernel: &mut K,
    family: Family,
    changes: &[G::Change],
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    let mut changes = changes.iter();
    changes.try_for_each(|change| kernel.carry_out(family, change, &mut outcome.sent))
}
