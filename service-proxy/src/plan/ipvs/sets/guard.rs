//! Sets, and the chains of iptables that look them up, beside virtual servers.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, SocketAddr},
};

use kernel::{
    Family,
    ipset::{self, Member, ObservedSet, Set},
    ipvs::VirtualAddress,
    nft::Transaction,
};

use super::{
    SetName, capacity,
    members::{Members, Node, Owner, filled, is_for, of_frontend, of_ports},
};
use crate::{
    model::{ObjectName, Service},
    plan::{
        Balance, Frontend,
        iptables::{self, Changes, Dispatch, ServicePort, Settings},
        ipvs::{
            Record,
            guard::{Guard, Steps},
        },
        nftables::{self, NodePortAddresses, NodeRules},
    },
};

/// Sets, and the chains of iptables that look them up, under kube-proxy's names.
#[derive(Debug)]
pub struct SetsGuard {
    family: Family,
    node: Node,
    members: Members,
    /// Knows the ports of all Services too.
    chains: iptables::Plan,
}

/// What stands in the kernel of one family.
#[derive(Clone, Debug, Default)]
pub struct ObservedSets {
    /// The sets of all our names.
    pub sets: BTreeMap<String, ObservedSet>,
    /// The tables.
    pub chains: iptables::Observed,
    /// What a table of nftables says is ours that stood in our place.
    pub former: Record,
}

/// What is sent at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuardChange {
    /// Sets and members.
    Sets(Vec<ipset::Change>),
    /// Chains.
    Chains(Changes),
}

// === impl SetsGuard ===

impl SetsGuard {
    /// For a family, with what of the rules is the same for all Services.
    pub fn new(family: Family, rules: NodeRules) -> Self {
        Self {
            family,
            node: Node::default(),
            members: Members::default(),
            chains: iptables::Plan::new(Settings {
                family,
                node: rules,
                dispatch: Dispatch::Tree,
                localhost_node_ports: false,
                drop_invalid: true,
                accounting: false,
                beside_ipvs: true,
            }),
        }
    }

    /// What owners have now.
    fn owned(
        &self,
        services: &nftables::Plan,
        names: impl Iterator<Item = ObjectName>,
        frontends: impl Iterator<Item = Frontend>,
    ) -> BTreeMap<Owner, BTreeSet<super::Placed>> {
        let of_services = names.map(|name| {
            let members = of_ports(self.chains.ports_of(&name), &self.node);
            (Owner::Service(name), members)
        });
        let of_frontends = frontends.map(|frontend| {
            let balance = services.balance(&frontend);
            let members = balance.map(|it| of_frontend(&frontend, it, &self.node));
            (Owner::Frontend(frontend), members.unwrap_or_default())
        });
        of_services.chain(of_frontends).collect()
    }

    /// The members that stand for a frontend, and those of its endpoints that could reach themselves.
    fn members_for(
        &self,
        services: &nftables::Plan,
        frontend: &Frontend,
    ) -> BTreeSet<super::Placed> {
        let of_port = self.chains.port_of(frontend).map(|port| {
            let members = of_ports(std::slice::from_ref(port), &self.node);
            members
                .into_iter()
                .filter(|it| is_for(it, frontend, &self.node))
        });
        let lacking = services.balance(frontend);
        let lacking = lacking.map(|it| of_frontend(frontend, it, &self.node));
        let lacking = lacking.into_iter().flatten();
        of_port.into_iter().flatten().chain(lacking).collect()
    }

    /// All sets that should stand.
    fn sets(&self, record: &Record) -> BTreeMap<String, Set> {
        let mut sets = self.members.sets(self.family);
        let servers = record.servers().iter();
        let servers = servers.map(|it| Member::IpPort(it.protocol, it.socket));
        let addresses = record.addresses().iter().copied().map(Member::Ip);
        let servers = (SetName::IPVS_SERVERS, servers.collect());
        for (name, members) in [servers, (SetName::IPVS_IPS, addresses.collect())] {
            let set = filled(name, self.family, members);
            sets.insert(name.of(self.family), set);
        }
        sets
    }
}

impl Guard for SetsGuard {
    type Ports = Vec<ServicePort>;
    type Observed = ObservedSets;
    type Change = GuardChange;

    fn ports(
        service: &Service,
        family: Family,
        frontends: &BTreeMap<Frontend, Balance>,
    ) -> Vec<ServicePort> {
        ServicePort::of(service, family, frontends)
    }

    fn settle(&mut self, rules: &NodeRules, node: &BTreeSet<IpAddr>) {
        let served = match &rules.node_ports {
            NodePortAddresses::In(networks) => networks.iter().map(|it| it.ip()).collect(),
            NodePortAddresses::All | NodePortAddresses::Primary => Vec::new(),
        };
        self.chains.set_node(rules.clone());
        self.node = Node {
            addresses: node.clone(),
            served,
        };
    }

    fn update(
        &mut self,
        services: &nftables::Plan,
        ports: BTreeMap<ObjectName, Vec<ServicePort>>,
        touched: &BTreeSet<Frontend>,
        _: Vec<Transaction>,
    ) -> Steps<GuardChange> {
        let names: Vec<_> = ports.keys().cloned().collect();
        let delta = self.chains.update(ports);
        let owned = self.owned(services, names.into_iter(), touched.iter().copied());
        let members = self.members.update(owned);
        let named = |(set, member): &(SetName, Member)| (set.of(self.family), *member);
        let add = members.added.iter().map(named);
        let add = add.map(|(set, member)| ipset::Change::Add(set, member));
        let delete = members.removed.iter().map(named);
        let delete = delete.map(|(set, member)| ipset::Change::Delete(set, member));
        let (before, after) = delta.changes.without_removals();
        Steps {
            first: changes(add.collect(), before, false),
            last: changes(delete.collect(), after, true),
            outgrown: delta.outgrown || members.outgrown,
        }
    }

    fn compare(
        &mut self,
        services: &nftables::Plan,
        observed: &ObservedSets,
        record: &Record,
    ) -> Steps<GuardChange> {
        // What members depend on may have changed.
        let names = self.chains.services().cloned();
        let owned = self.owned(services, names, services.frontends().copied());
        self.members = Members::default();
        self.members.update(owned);
        let changes_of_sets = ipset::diff(&observed.sets, &self.sets(record));
        let goes = |change: &ipset::Change| matches!(change, ipset::Change::Delete(..));
        let (delete, add) = changes_of_sets.into_iter().partition(goes);
        let difference = iptables::difference(&self.chains.ruleset(), &observed.chains);
        let (before, after) = difference.make_before_break(&observed.chains);
        Steps {
            first: changes(add, before, false),
            last: changes(delete, after, true),
            outgrown: false,
        }
    }

    fn note(
        family: Family,
        servers: &[&VirtualAddress],
        addresses: &[IpAddr],
    ) -> Option<GuardChange> {
        recorded(family, servers, addresses, ipset::Change::Add)
    }

    fn forget(
        family: Family,
        servers: &[&VirtualAddress],
        addresses: &[IpAddr],
    ) -> Option<GuardChange> {
        recorded(family, servers, addresses, ipset::Change::Delete)
    }

    fn record(observed: &ObservedSets) -> Record {
        let former = observed.former.clone();
        Record::of_sets(&observed.sets).with(former)
    }

    fn rooms(servers: usize, addresses: usize) -> [u32; 2] {
        [capacity(servers), capacity(addresses)]
    }

    /// Members of sets, then rules. What it shares with others, as the rules that look sets up, is left out.
    fn involved(
        &self,
        services: &nftables::Plan,
        frontend: &Frontend,
        observed: &ObservedSets,
    ) -> Vec<(String, bool)> {
        let members = self.members_for(services, frontend).into_iter();
        let members = members.map(|(set, member)| {
            let name = set.of(self.family);
            let stands = match observed.sets.get(&name) {
                Some(ObservedSet::Known(set)) => set.members.contains(&member),
                _ => false,
            };
            (ipset::Change::Add(name, member).to_string(), stands)
        });
        let rules = self.chains.involved(frontend).into_iter();
        let rules = rules.map(|it| (it.command(self.family), observed.chains.has_rule(&it)));
        members.chain(rules).collect()
    }

    fn kept(
        &self,
        _: &ObservedSets,
        frontend: &Frontend,
        client: IpAddr,
        remembers: &dyn Fn(&str, IpAddr) -> bool,
    ) -> Option<SocketAddr> {
        let mut lists = self.chains.remembered(frontend).into_iter();
        let kept = lists.find(|(list, _)| remembers(list, client));
        kept.map(|(_, endpoint)| endpoint)
    }
}

impl fmt::Display for GuardChange {
    /// As ipset, or iptables-restore, takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sets(changes) => changes.iter().try_for_each(|it| writeln!(f, "{it}")),
            Self::Chains(changes) => write!(f, "{changes}"),
        }
    }
}

/// What is sent, if it is anything: sets before the chains that look them up, members behind those that did.
fn changes(sets: Vec<ipset::Change>, chains: Changes, chains_first: bool) -> Vec<GuardChange> {
    let sets = (!sets.is_empty()).then_some(GuardChange::Sets(sets));
    let chains = (!chains.is_empty()).then_some(GuardChange::Chains(chains));
    let order = if chains_first {
        [chains, sets]
    } else {
        [sets, chains]
    };
    order.into_iter().flatten().collect()
}

fn recorded(
    family: Family,
    servers: &[&VirtualAddress],
    addresses: &[IpAddr],
    change: impl Fn(String, Member) -> ipset::Change,
) -> Option<GuardChange> {
    let servers = servers.iter().map(|it| {
        let member = Member::IpPort(it.protocol, it.socket);
        change(SetName::IPVS_SERVERS.of(family), member)
    });
    let addresses = addresses.iter().copied();
    let addresses = addresses.map(|it| change(SetName::IPVS_IPS.of(family), Member::Ip(it)));
    let changes: Vec<_> = servers.chain(addresses).collect();
    (!changes.is_empty()).then_some(GuardChange::Sets(changes))
}
