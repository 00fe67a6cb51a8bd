//! iptables mode: chains, only those that change.
//!
//! At the start, after a failure, when others were seen to change what is ours and when the canary has gone,
//! everything is read, compared, and what differs is written; so it is now and then where others have changed
//! anything, but never so often that it would cost more than a hundredth of a processor: to read tables costs in
//! proportion to all that is in them.

mod accounting;
mod clean_up;
mod options;
mod way;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use kernel::{
    Family,
    iptables::{self, Backend, Error, Iptables, in_use},
    sysctl,
};

pub use self::{
    clean_up::{clean_up, observe, stop_routing_loopback},
    options::IptablesOptions,
};

use self::way::Way;
use super::{Dataplane, Failure};
use crate::{
    drift::{CannotWatch, Drift},
    model::{Catalogue, Here, ObjectName},
    plan::{
        iptables::{
            Changes, Delta, Dispatch, Observed, Plan, ServicePort, Settings, Table, difference,
        },
        nftables::{NodeRules, Surroundings},
    },
    reconcile::{Outcome, RuleCount},
};

/// For how long nothing is compared again, for each rule that there is: to read and compare one takes about a
/// hundredth of that.
const REST: Duration = Duration::from_millis(1);
/// Loopback addresses are routed, for NodePorts on them.
const ROUTE_LOCALNET: &str = "net/ipv4/conf/all/route_localnet";
/// TCP packets out of the window belong to their connection all the same.
const TCP_BE_LIBERAL: &str = "net/netfilter/nf_conntrack_tcp_be_liberal";

/// How this mode works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IptablesMode {
    /// The kind of tables, if it is not to be found out.
    pub backend: Option<Backend>,
    /// How addresses are looked up.
    pub dispatch: Dispatch,
    /// NodePorts are served on IPv4's loopback addresses too (F17).
    pub localhost_node_ports: bool,
    /// TCP packets out of the window belong to their connection all the same: packets that belong to none are
    /// forwarded then (F35).
    pub tcp_be_liberal: bool,
}

/// Keeps the tables of both families as the Services want them.
#[derive(Debug)]
pub struct Tables {
    node: String,
    around: Surroundings,
    way: Way,
    families: Vec<FamilyTables>,
}

/// The tables of one family.
#[derive(Debug)]
struct FamilyTables {
    programs: Iptables,
    plan: Plan,
    /// What is the same in every dataplane, in whatever surroundings.
    rules: NodeRules,
    /// Whether the tables are known to be as the plan had them before the latest change.
    in_step: bool,
    /// How many rules there should be by table.
    counts: BTreeMap<Table, usize>,
    /// Not before then is everything compared again, unless something is wrong.
    compare_at: Instant,
}

// === impl IptablesMode ===

/// kube-proxy's.
impl Default for IptablesMode {
    fn default() -> Self {
        Self {
            backend: None,
            dispatch: Dispatch::default(),
            localhost_node_ports: true,
            tcp_be_liberal: false,
        }
    }
}

impl IptablesMode {
    /// The kind of tables, or the one that the node uses.
    ///
    /// # Errors
    /// If there is none.
    pub fn backend(self) -> iptables::Result<Backend> {
        self.backend.map_or_else(in_use, Ok)
    }

    /// What of a family's rules is the same for all Services, with or without accounting objects.
    fn settings(self, family: Family, node: NodeRules, accounting: bool) -> Settings {
        // Where it can't be read yet, it is as the kernel has it at first.
        let liberal = sysctl::get(TCP_BE_LIBERAL).is_ok_and(|value| value != "0");
        Settings {
            family,
            node,
            dispatch: self.dispatch,
            localhost_node_ports: self.localhost_node_ports,
            drop_invalid: !liberal && !self.tcp_be_liberal,
            accounting,
            beside_ipvs: false,
        }
    }

    /// The same as a program would have it that runs now.
    pub fn settings_now(self, family: Family, node: NodeRules) -> Settings {
        self.settings(family, node, accounting::are_there())
    }
}

// === impl Tables ===

impl Tables {
    /// Finds the programs of a way into the kernel, or of the one that the node uses. A family whose programs
    /// are missing is left out if the other's are there.
    ///
    /// # Errors
    /// If there are none.
    pub fn open(
        node: impl Into<String>,
        mode: IptablesMode,
        mut rules: impl FnMut(Family) -> NodeRules,
    ) -> Result<Self, Failure> {
        let backend = mode.backend()?;
        let accounting = accounting::ensure();
        let mut families = Vec::new();
        let mut missing = None;
        for family in Family::ALL {
            let settings = mode.settings(family, rules(family), accounting);
            match Iptables::find(family, backend) {
                Ok(programs) => families.push(FamilyTables::new(programs, settings)),
                Err(error @ Error::Missing { .. }) => missing = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
        match missing {
            Some(error) if families.is_empty() => return Err(error.into()),
            Some(error) => {
                tracing::warn!("{error}; until it starts anew, that family is not served")
            }
            None => {}
        }
        tracing::info!("writes {backend}");
        Ok(Self {
            node: node.into(),
            around: Surroundings::default(),
            way: Way::open(backend)?,
            families,
        })
    }
}

impl Dataplane for Tables {
    fn update(&mut self, catalogue: &Catalogue, services: &BTreeSet<ObjectName>) -> Outcome {
        let mut outcome = Outcome::default();
        self.around = self.around.now(catalogue, &self.node);
        if self.families.iter().all(|tables| !tables.in_step) {
            self.way.count_from_now();
        }
        let here = Here {
            node: &self.node,
            zone: catalogue.zone(&self.node),
            addresses: &self.around.addresses,
        };
        for tables in &mut self.families {
            let started = Instant::now();
            let family = tables.plan.settings().family;
            let now = services.iter().map(|name| {
                let service = catalogue.service(name);
                let slices = catalogue.slices_of(name);
                let ports = service.map(|it| ServicePort::all(it, slices, family, here));
                (name.clone(), ports.unwrap_or_default())
            });
            let mut delta = tables.plan.update(now.collect::<BTreeMap<_, _>>());
            outcome.contests.append(&mut delta.contests);
            // What is refused is compared with all that stands; that can only be drift.
            let settled = !tables.settle(&self.around);
            let followed = settled
                && tables.in_step
                && !delta.outgrown
                && tables.follow(&mut self.way, &delta, &mut outcome);
            if !followed {
                tables.synchronise(&mut self.way, &mut outcome);
            }
            outcome.attempted(family, started, tables.in_step);
        }
        outcome
    }

    fn set_rules(&mut self, family: Family, rules: NodeRules) -> bool {
        let mut families = self.families.iter_mut();
        let tables = families.find(|it| it.plan.settings().family == family);
        tables.is_some_and(|tables| {
            tables.rules = rules;
            tables.settle(&self.around)
        })
    }

    fn is_settled(&self, catalogue: &Catalogue) -> bool {
        self.around == self.around.now(catalogue, &self.node)
    }

    fn surroundings(&self) -> &Surroundings {
        &self.around
    }

    fn iptables(&self) -> Option<Backend> {
        self.families.first().map(|it| it.programs.backend())
    }

    fn resync(&mut self) -> Outcome {
        let mut outcome = Outcome::default();
        if self.families.iter().any(|it| it.plan.settings().accounting) {
            // Others can remove those that no rule counts in.
            accounting::ensure();
        }
        let compare = self.needs_comparing();
        if compare {
            self.way.count_from_now();
        }
        for tables in &mut self.families {
            let started = Instant::now();
            if compare {
                tables.synchronise(&mut self.way, &mut outcome);
            }
            outcome.attempted(tables.plan.settings().family, started, tables.in_step);
        }
        outcome
    }

    fn watch(&self) -> Result<Option<Drift>, CannotWatch> {
        self.way.watch()
    }
}

impl Tables {
    fn needs_comparing(&mut self) -> bool {
        if self.families.iter().any(|tables| !tables.in_step) {
            return true;
        }
        let now = Instant::now();
        let rested = self.families.iter().all(|tables| now >= tables.compare_at);
        let as_left = self.way.is_as_left();
        match self.way {
            Way::Native(_) if as_left => return false,
            // It can't be told for certain.
            Way::Programs(_) if as_left => return rested,
            _ if rested || self.way.is_disturbed() => return true,
            _ => {}
        }
        let way = &mut self.way;
        let mut families = self.families.iter();
        families.any(|tables| !way.has_canary(&tables.programs))
    }
}

// === impl FamilyTables ===

impl FamilyTables {
    fn new(programs: Iptables, settings: Settings) -> Self {
        Self {
            programs,
            rules: settings.node.clone(),
            plan: Plan::new(settings),
            in_step: false,
            counts: BTreeMap::new(),
            compare_at: Instant::now(),
        }
    }

    /// Makes the rules those for some surroundings; answers whether that is new.
    fn settle(&mut self, around: &Surroundings) -> bool {
        let family = self.plan.settings().family;
        let changed = self.plan.set_node(self.rules.settled(family, around));
        self.in_step &= !changed;
        changed
    }

    /// Writes a change; answers whether it was carried out.
    fn follow(&mut self, way: &mut Way, delta: &Delta, outcome: &mut Outcome) -> bool {
        for (table, more) in &delta.rules {
            let count = self.counts.entry(*table).or_default();
            *count = count.saturating_add_signed(*more);
        }
        let written = self.write(way, &delta.changes, outcome);
        if let Err(error) = &written {
            outcome.refused.push(self.plan.settings().family);
            tracing::warn!("{error}; everything is compared");
        }
        written.is_ok()
    }

    /// Reads everything and writes what differs from the plan.
    fn synchronise(&mut self, way: &mut Way, outcome: &mut Outcome) {
        self.in_step = false;
        match self.compare(way, outcome) {
            Ok(rules) => {
                self.in_step = true;
                self.compare_at = Instant::now() + REST * u32::try_from(rules).unwrap_or(u32::MAX);
            }
            Err(failure) => outcome.failures.push(failure),
        }
    }

    /// Answers with how many rules were compared.
    fn compare(&mut self, way: &mut Way, outcome: &mut Outcome) -> Result<usize, Failure> {
        prepare(self.plan.settings())?;
        let observed = way.read(&self.programs)?;
        let ruleset = self.plan.ruleset();
        let counts = Table::ALL.map(|table| (table, ruleset.rules(table)));
        self.counts = counts.into();
        self.write(way, &difference(&ruleset, &observed), outcome)?;
        Ok(self.counts.values().sum())
    }

    fn write(
        &self,
        way: &mut Way,
        changes: &Changes,
        outcome: &mut Outcome,
    ) -> iptables::Result<()> {
        if !changes.is_empty() {
            let text = changes.to_string();
            accounting::ensure_for(&text);
            way.restore(&self.programs, &text)?;
        }
        let family = self.plan.settings().family;
        outcome
            .rules
            .extend(self.counts.iter().map(|(table, total)| RuleCount {
                family,
                table: table.name(),
                total: *total,
                written: changes.rules(*table),
            }));
        outcome.sent.count_chains(changes);
        Ok(())
    }
}

/// Reads the tables of a family of some kind; changes nothing.
///
/// # Errors
/// If they can't be read.
pub fn read(family: Family, backend: Backend) -> Result<Observed, Failure> {
    let programs = Iptables::find(family, backend)?;
    Ok(Way::open(backend)?.read(&programs)?)
}

/// Sets what the mode needs of the machine, which takes a `/proc/sys` that can be written to, as a container has it
/// only if it is privileged; what is set already is left.
///
/// # Errors
/// If it can't be set.
pub fn prepare(settings: &Settings) -> kernel::Result<()> {
    if settings.serves_loopback() {
        sysctl::set(ROUTE_LOCALNET, "1")?;
    }
    Ok(())
}
