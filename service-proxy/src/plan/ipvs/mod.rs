//! IPVS: Services as virtual servers, with rules before and after them.
//!
//! A virtual server spreads connections over endpoints, and that is all that it can say. So a [`Guard`] stands
//! beside, a table of [`nftables`](super::nftables) or sets and chains of [`iptables`](super::iptables): it drops
//! what may not connect, refuses what nobody serves, marks what has to be masqueraded, and translates where the
//! endpoints depend on who connects (`externalTrafficPolicy: Local`, for pods and for the node itself). The node has
//! the addresses of Services, as IPVS sees nothing but what comes to the node itself.
//!
//! It also names each virtual server that this program has made, and each address, so that others' are
//! known from ours whenever this program starts.

mod concern;
mod difference;
mod guard;
mod involved;
mod machine;
mod phases;
mod record;
mod served;
mod sets;
mod step;
mod table;
mod virtuals;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnetwork::IpNetwork;
use kernel::{
    Family,
    ipvs::{Change, VirtualAddress},
};

use self::served::serves;
use super::{
    Address, Balance, Frontend,
    nftables::{self, Balancer, Contest, NodePortAddresses, NodeRules, Surroundings},
};
use crate::model::ObjectName;

pub use concern::Concern;
pub use difference::{Difference, difference};
pub use guard::{Guard, Steps};
pub use involved::Involved;
pub use machine::conn_reuse_mode;
pub use record::Record;

pub use served::is_scoped;
pub use sets::{Former, GuardChange, ObservedSets, SetName, SetsGuard};
pub use step::{Delta, Step};
pub use table::TableGuard;
pub use virtuals::{Real, Virtual, Virtuals};

/// What of one family should stand in the kernel, kept by Service so that a change costs what it changes.
#[derive(Debug)]
pub struct Plan<G = TableGuard> {
    /// Knows what Services are, and makes the table if there is one.
    filter: nftables::Plan,
    /// What stands beside virtual servers.
    guard: G,
    rules: NodeRules,
    settings: Settings,
    /// The node's addresses on other interfaces than ours.
    node: BTreeSet<IpAddr>,
    /// Where NodePorts are served, by what is known of the node.
    node_ports: NodePortAddresses,
    /// The node's addresses that they are served on.
    served: BTreeSet<IpAddr>,
    /// The addresses on our interface.
    bound: BTreeSet<IpAddr>,
    /// Virtual servers that are to go, or with real servers that are, and these alone: connections keep them.
    leaving: Virtuals,
    /// Virtual servers that were to be removed, and it is not known yet whether the kernel has done so.
    unsure: BTreeSet<VirtualAddress>,
    /// Those that are ours by the record, and that nobody wants, but that were not seen the last time: a listing can
    /// be incomplete. Only if they are not seen twice are they forgotten.
    missing: BTreeSet<VirtualAddress>,
    /// How many virtual servers there are, those that are leaving included.
    count: usize,
}

/// What of virtual servers is the same for all Services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What chooses the endpoint of a connection.
    pub scheduler: String,
    /// Networks whose virtual servers are not ours, whoever made them.
    pub excluded: Vec<IpNetwork>,
}

/// What stands in the kernel.
#[derive(Clone, Debug, Default)]
pub struct Observed<O> {
    /// What stands beside virtual servers.
    pub guard: O,
    /// What that says of which virtual servers and addresses are ours.
    pub record: Record,
    /// The addresses on our interface.
    pub bound: BTreeSet<IpAddr>,
    /// The virtual servers that are ours.
    pub virtuals: Virtuals,
}

// === impl Plan ===

impl Plan {
    /// A plan without Services, with a table of nftables.
    pub fn new(family: Family, rules: NodeRules, settings: Settings) -> Self {
        Self::with(TableGuard, family, rules, settings)
    }
}

impl<G: Guard> Plan<G> {
    /// A plan without Services.
    pub fn with(guard: G, family: Family, rules: NodeRules, settings: Settings) -> Self {
        Self {
            filter: nftables::Plan::with(family, rules.clone(), Balancer::Ipvs),
            guard,
            rules,
            settings,
            node: BTreeSet::new(),
            node_ports: NodePortAddresses::default(),
            served: BTreeSet::new(),
            bound: BTreeSet::new(),
            leaving: Virtuals::new(),
            unsure: BTreeSet::new(),
            missing: BTreeSet::new(),
            count: 0,
        }
    }

    /// The family.
    pub fn family(&self) -> Family {
        self.filter.family()
    }

    /// The name of the table.
    pub fn table_name(&self) -> &'static str {
        self.filter.table_name()
    }

    /// Takes in what of the rules is the same for all Services.
    pub fn set_rules(&mut self, rules: NodeRules) {
        self.rules = rules;
    }

    /// Takes in what is known of the node, and its addresses on other interfaces than ours; answers whether
    /// that makes a difference, so that all has to be compared.
    pub fn settle(&mut self, around: &Surroundings, node: &BTreeSet<IpAddr>) -> bool {
        let family = self.family();
        let of_family = |address: &&IpAddr| Family::of(address) == family;
        let node: BTreeSet<_> = node.iter().filter(of_family).copied().collect();
        let moved = self.node != node;
        self.node = node;
        self.node_ports = self.rules.node_ports.settled(family, around);
        let served = self.node.iter();
        let served = served.filter(|it| serves(&self.node_ports, **it));
        self.served = served.copied().collect();
        let rules = NodeRules {
            node_ports: NodePortAddresses::In(
                self.served.iter().copied().map(IpNetwork::from).collect(),
            ),
            ..self.rules.clone()
        };
        let changed = self.filter.set_rules(rules, around) || moved;
        if changed {
            self.guard.settle(self.filter.node(), &self.node);
        }
        changed
    }

    /// Takes in what Services are now where everything will be compared with the kernel anyway; answers with
    /// what several claim.
    pub fn load(
        &mut self,
        services: impl Iterator<Item = (ObjectName, BTreeMap<Frontend, Balance>, G::Ports)>,
    ) -> Vec<Contest> {
        let (mut ports, mut touched) = (BTreeMap::new(), BTreeSet::new());
        let services = services.map(|(name, frontends, of_service)| {
            touched.extend(frontends.keys().copied());
            ports.insert(name.clone(), of_service);
            (name, frontends)
        });
        let contests = self.filter.load(services);
        // All is compared, by which what goes is seen too.
        self.guard.update(&self.filter, ports, &touched, Vec::new());
        contests
    }

    /// Takes in what Services are now, each with all of its frontends; answers with what that changes.
    pub fn update(
        &mut self,
        now: impl Iterator<Item = (ObjectName, BTreeMap<Frontend, Balance>, G::Ports)>,
    ) -> Delta<G::Change> {
        let (mut services, mut ports) = (BTreeMap::new(), BTreeMap::new());
        for (name, frontends, of_service) in now {
            ports.insert(name.clone(), of_service);
            services.insert(name, frontends);
        }
        let coming = services.values().flat_map(BTreeMap::keys);
        let known = services.keys().flat_map(|it| self.filter.frontends_of(it));
        let frontends: BTreeSet<Frontend> = known.chain(coming).copied().collect();
        let touched: BTreeSet<_> = frontends.iter().flat_map(|it| self.addresses(it)).collect();
        let have = touched.iter().filter_map(|it| self.standing(it)).collect();
        let delta = self.filter.update(services);
        let want = touched.iter().filter_map(|it| self.wanted(it)).collect();
        let before = self.rooms();
        let mut step = self.change(&have, &want);
        let transactions = delta.transactions();
        let steps = self
            .guard
            .update(&self.filter, ports, &frontends, transactions);
        step.first = G::joined(steps.first, step.first);
        step.last.extend(steps.last);
        Delta {
            outgrown: delta.outgrown || steps.outgrown || self.rooms() != before,
            contests: delta.contests,
            step,
        }
    }

    /// Takes in what has become of virtual servers that were leaving; answers with what is to be done.
    pub fn follow(&mut self, observed: Virtuals) -> Step<G::Change> {
        let want = observed.keys().filter_map(|it| self.wanted(it)).collect();
        self.change(&observed, &want)
    }

    /// What makes all that stands in the kernel what should. The endpoints' places in maps are taken over unless
    /// the plan knows those that it has given.
    pub fn compare(&mut self, observed: Observed<G::Observed>, adopt: bool) -> Step<G::Change> {
        if adopt {
            self.guard.adopt(&mut self.filter, &observed.guard);
        }
        let bound = observed.bound.into_iter();
        let ours = |it: &IpAddr| !self.is_excluded(*it) || self.needs_address(*it);
        self.bound = bound.filter(ours).collect();
        self.leaving.clear();
        let all = self.filter.frontends().flat_map(|it| self.addresses(it));
        let want: Virtuals = all.filter_map(|it| self.wanted(&it)).collect();
        let mut step = self.step(&observed.virtuals, &want);
        self.count = want.len()
            + self
                .leaving
                .keys()
                .filter(|it| !want.contains_key(it))
                .count();
        step.unbind.extend(self.unneeded(self.bound.clone()));
        let missing = self.unseen(&observed.record, &observed.virtuals, &want);
        self.missing = missing.difference(&self.missing).copied().collect();
        let names = want.keys().chain(self.leaving.keys()).chain(&self.missing);
        let record = Record::new(names.copied().collect(), self.bound.clone());
        let steps = self.guard.compare(&self.filter, &observed.guard, &record);
        (step.first, step.last) = (steps.first, steps.last);
        step
    }

    /// What the record names of this family, nobody wants, and was not seen among the virtual servers.
    fn unseen(
        &self,
        record: &Record,
        seen: &Virtuals,
        want: &Virtuals,
    ) -> BTreeSet<VirtualAddress> {
        let unseen = |it: &&VirtualAddress| {
            it.family() == self.family() && !seen.contains_key(it) && !want.contains_key(it)
        };
        record.servers().iter().filter(unseen).copied().collect()
    }

    /// Whether a virtual server is ours, by what stands in the kernel, or is to be.
    pub fn is_ours(
        &self,
        address: &VirtualAddress,
        record: &Record,
        former: &Former,
        bound: &BTreeSet<IpAddr>,
    ) -> bool {
        let ip = address.socket.ip();
        let known = record.has(address)
            || bound.contains(&ip)
            || former.has(address, &self.node)
            || self.leaving.contains_key(address)
            || self.unsure.contains(address);
        self.wanted(address).is_some() || known && !self.is_excluded(ip)
    }

    /// Whether there is something in the record that was not seen among the virtual servers, and may be there all
    /// the same: everything is to be compared once more.
    pub fn doubts(&self) -> bool {
        !self.missing.is_empty()
    }

    /// The kernel has followed so far.
    pub fn confirm(&mut self) {
        self.unsure.clear();
    }

    /// Virtual servers that are to go, or with real servers that are, and these alone: connections keep them.
    pub fn leaving(&self) -> &Virtuals {
        &self.leaving
    }

    /// The changes of virtual servers and what belongs to them.
    fn change(&mut self, have: &Virtuals, want: &Virtuals) -> Step<G::Change> {
        let step = self.step(have, want);
        let stand: BTreeSet<_> = have.keys().collect();
        let will = want.keys().chain(self.leaving.keys());
        let will: BTreeSet<_> = will
            .filter(|it| have.contains_key(it) || want.contains_key(it))
            .collect();
        self.count = self.count + will.len() - stand.len();
        let family = self.family();
        let coming: Vec<_> = will.difference(&stand).copied().collect();
        let going: Vec<_> = stand.difference(&will).copied().collect();
        let first = G::note(family, &coming, &step.bind);
        let last = G::forget(family, &going, &step.unbind);
        Step {
            first: first.into_iter().collect(),
            last: last.into_iter().collect(),
            ..step
        }
    }

    /// The changes of virtual servers and of the node's addresses.
    fn step(&mut self, have: &Virtuals, want: &Virtuals) -> Step<G::Change> {
        let difference = difference(have, want);
        for address in have.keys().chain(want.keys()) {
            self.leaving.remove(address);
        }
        let deleted = difference.changes.iter().filter_map(|change| match change {
            Change::DeleteVirtual(address) => Some(*address),
            _ => None,
        });
        self.unsure.extend(deleted);
        self.leaving.extend(difference.leaving);
        let ips = have.keys().chain(want.keys()).map(|it| it.socket.ip());
        let ips: BTreeSet<_> = ips.collect();
        let bind = ips.iter().copied();
        let bind: Vec<_> = bind
            .filter(|ip| !self.bound.contains(ip) && self.needs_address(*ip))
            .collect();
        self.bound.extend(&bind);
        Step {
            servers: difference.changes,
            unbind: self.unneeded(ips),
            bind,
            ..Step::default()
        }
    }

    /// Takes those of some addresses off our interface that nobody needs.
    fn unneeded(&mut self, ips: BTreeSet<IpAddr>) -> Vec<IpAddr> {
        let kept: BTreeSet<_> = self.leaving.keys().map(|it| it.socket.ip()).collect();
        let keeps =
            |ip: &IpAddr| self.needs_address(*ip) || kept.contains(ip) && !self.node.contains(ip);
        let unneeded = ips
            .into_iter()
            .filter(|ip| self.bound.contains(ip) && !keeps(ip));
        let unneeded: Vec<_> = unneeded.collect();
        for ip in &unneeded {
            self.bound.remove(ip);
        }
        unneeded
    }

    /// Whether an address is to be on our interface: it is a Service's, and on no other.
    fn needs_address(&self, ip: IpAddr) -> bool {
        !self.node.contains(&ip) && self.filter.has_address(ip)
    }

    fn is_excluded(&self, ip: IpAddr) -> bool {
        self.settings.excluded.iter().any(|it| it.contains(ip))
    }

    /// The virtual servers of a frontend.
    fn addresses(&self, frontend: &Frontend) -> Vec<VirtualAddress> {
        match frontend.address {
            Address::Own(ip) => vec![virtuals::address(frontend, ip)],
            Address::Node => {
                let served = self.served.iter();
                served.map(|ip| virtuals::address(frontend, *ip)).collect()
            }
        }
    }

    /// The virtual server of an address as it should stand.
    fn wanted(&self, address: &VirtualAddress) -> Option<(VirtualAddress, Virtual)> {
        let balance = |by_node| self.filter.balance(&virtuals::frontend(address, by_node));
        let by_node = self.served.contains(&address.socket.ip());
        let balance = balance(false).or_else(|| by_node.then(|| balance(true)).flatten())?;
        let server = Virtual::of(*address, balance, &self.settings.scheduler);
        Some((*address, server))
    }

    /// The virtual server of an address as it stands, if the kernel has followed so far.
    fn standing(&self, address: &VirtualAddress) -> Option<(VirtualAddress, Virtual)> {
        let leaving = self.leaving.get(address);
        let standing = match (self.wanted(address), leaving) {
            (Some((_, mut wanted)), Some(leaving)) => {
                wanted.reals.extend(leaving.reals.clone());
                wanted
            }
            (Some((_, wanted)), None) => wanted,
            (None, leaving) => leaving?.clone(),
        };
        Some((*address, standing))
    }

    /// The room that the sets of the record need.
    fn rooms(&self) -> [u32; 2] {
        G::rooms(self.count, self.bound.len())
    }
}
