//! iptables: chains with kube-proxy's names and rules, as people and other programs know them.
//!
//! A connection comes from `KUBE-SERVICES` by address and port to the chain of a Service port,
//! `KUBE-SVC-HASH` (from outside by way of `KUBE-EXT-HASH`), which draws an endpoint's chain,
//! `KUBE-SEP-HASH`, which translates. The way from `KUBE-SERVICES` on is a [`tree`], or for
//! [`Dispatch::Flat`] the classic list with a rule for each Service port.

mod beside_ipvs;
mod canonical;
mod chains;
mod difference;
mod entries;
mod involved;
mod name;
mod rule;
mod ruleset;
mod service_port;
mod skeleton;
mod tree;

use std::collections::{BTreeMap, BTreeSet};

use kernel::Family;

use self::{
    entries::{Entry, Key, List},
    tree::{Space, Tree},
};
use super::{
    Frontend,
    nftables::{Contest, NodePortAddresses, NodeRules, Pods, loopback},
};
use crate::model::{ObjectName, Protocol};

pub use difference::{Observed, clean_up, difference, is_drift};
pub use involved::Involved;
pub use name::{ACCOUNTED, CANARY, INVALID_DROPPED, LOCALHOST_ACCEPTED};
pub use ruleset::{ChainId, Chains, Changes, Ruleset, Shared, Table};
pub use service_port::ServicePort;

/// What of one family's rules is the same for all Services.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The family.
    pub family: Family,
    /// What is the same in every dataplane.
    pub node: NodeRules,
    /// How addresses are looked up.
    pub dispatch: Dispatch,
    /// NodePorts are served on IPv4's loopback addresses too, where the node's addresses allow it (F17).
    pub localhost_node_ports: bool,
    /// Packets that belong to no connection are not forwarded (F35).
    pub drop_invalid: bool,
    /// Packets are counted in the kernel's accounting objects.
    pub accounting: bool,
    /// Virtual servers spread connections. Chains do what these can't: pods and the node itself have all endpoints
    /// where others have those on this node, and what comes before and after stands in sets.
    pub beside_ipvs: bool,
}

/// A cluster is large from more endpoints on, as kube-proxy has it (F39).
const LARGE: usize = 1000;

/// How addresses are looked up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dispatch {
    /// By a tree of chains.
    #[default]
    Tree,
    /// By kube-proxy's list of rules, and with nothing but its rules.
    Flat,
}

/// What should stand in the tables of one family, kept by Service so that a change costs what it changes.
#[derive(Debug)]
pub struct Plan {
    settings: Settings,
    services: BTreeMap<ObjectName, Vec<ServicePort>>,
    /// Who claims a frontend. Two Services with one address are a mistake; the first by name has it.
    claims: BTreeMap<Frontend, BTreeSet<ObjectName>>,
    /// The chains of the lists as they are now.
    lists: Chains,
    /// How many endpoints there are, of each Service port.
    endpoints: usize,
    /// Whether the cluster is large, or was since the start: it is not to change to and fro.
    large: bool,
}

/// What a change of Services changes.
#[derive(Debug, Default)]
pub struct Delta {
    /// What is to be done.
    pub changes: Changes,
    /// Addresses that several Services have, where that is new.
    pub contests: Vec<Contest>,
    /// How many more rules there are by table, or fewer.
    pub rules: BTreeMap<Table, isize>,
    /// The cluster has become large: what is to be done is all that differs from [`Plan::ruleset`].
    pub outgrown: bool,
}

// === impl Settings ===

impl Settings {
    /// Matches connections from pods, if they are known; behind `!`, those from elsewhere (F27).
    fn pods(&self) -> Option<String> {
        Some(match self.node.pods.as_ref()? {
            // While the Node object names none.
            Pods::OfNode => return None,
            Pods::Network(network) => format!("-s {network}"),
            Pods::Bridge(name) => format!("-i {name}"),
            Pods::InterfacePrefix(name) => format!("-i {name}+"),
        })
    }

    /// Whether NodePorts are served on loopback addresses, which have to be routed then.
    pub fn serves_loopback(&self) -> bool {
        let allowed = match &self.node.node_ports {
            NodePortAddresses::All | NodePortAddresses::Primary => true,
            NodePortAddresses::In(networks) => networks
                .iter()
                .any(|network| skeleton::overlaps(*network, loopback(Family::V4))),
        };
        self.family == Family::V4 && self.localhost_node_ports && allowed
    }
}

// === impl Plan ===

impl Plan {
    /// A plan without Services.
    pub fn new(settings: Settings) -> Self {
        let mut plan = Self {
            settings,
            services: BTreeMap::new(),
            claims: BTreeMap::new(),
            lists: Chains::new(),
            endpoints: 0,
            large: false,
        };
        plan.lists = plan.lists();
        plan
    }

    /// What is the same for all Services.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Takes in what is the same in every dataplane; answers whether that is new.
    pub fn set_node(&mut self, node: NodeRules) -> bool {
        if self.settings.node == node {
            return false;
        }
        self.settings.node = node;
        self.lists = self.lists();
        true
    }

    /// Takes in what Services are now, each with all of its ports; answers with what that changes.
    pub fn update(&mut self, services: BTreeMap<ObjectName, Vec<ServicePort>>) -> Delta {
        let mut delta = Delta::default();
        let mut lists_change = false;
        let (mut before, mut after) = (Chains::new(), Chains::new());
        for (service, ports) in services {
            let had = self.services.remove(&service).unwrap_or_default();
            if had == ports {
                self.services.insert(service, had);
                continue;
            }
            let count = |ports: &[ServicePort]| -> usize {
                ports.iter().map(|port| port.backends().len()).sum()
            };
            self.endpoints = self.endpoints + count(&ports) - count(&had);
            before.extend(self.chains_of(&had));
            after.extend(self.chains_of(&ports));
            lists_change |= self.entries_of(&had) != self.entries_of(&ports);
            delta.contests.extend(self.claim(&service, &had, &ports));
            if !ports.is_empty() {
                self.services.insert(service, ports);
            }
        }
        if lists_change {
            let lists = self.lists();
            before.append(&mut std::mem::replace(&mut self.lists, lists.clone()));
            after.extend(lists);
        }
        delta.rules = more_rules(&before, &after);
        delta.changes.chains = replaced(before, after);
        delta.outgrown = !self.large && self.endpoints > LARGE;
        if delta.outgrown {
            self.large = true;
            self.lists = self.lists();
        }
        delta
    }

    /// All that should stand in the kernel.
    pub fn ruleset(&self) -> Ruleset {
        let (mut chains, shared) = if self.settings.beside_ipvs {
            (beside_ipvs::chains(&self.settings), beside_ipvs::shared())
        } else {
            let shared = skeleton::shared(&self.settings);
            (skeleton::chains(&self.settings), shared)
        };
        chains.extend(self.lists.clone());
        for ports in self.services.values() {
            chains.extend(self.chains_of(ports));
        }
        Ruleset { chains, shared }
    }

    /// The Services that are known.
    pub fn services(&self) -> impl Iterator<Item = &ObjectName> {
        self.services.keys()
    }

    /// The ports of a Service; none of one that is not known.
    pub fn ports_of(&self, service: &ObjectName) -> &[ServicePort] {
        self.services.get(service).map_or(&[], Vec::as_slice)
    }

    fn chains_of(&self, ports: &[ServicePort]) -> Chains {
        let chains = ports
            .iter()
            .map(|port| chains::chains(&self.settings, port, self.large));
        chains.flatten().collect()
    }

    fn entries_of(&self, ports: &[ServicePort]) -> Vec<Entry> {
        let entries = ports
            .iter()
            .map(|port| entries::entries(&self.settings, port, self.large));
        let refusals = ports
            .iter()
            .filter_map(|port| entries::refusal(&self.settings, port));
        entries.flatten().chain(refusals).collect()
    }

    /// Puts what a Service claims in the place of what it claimed; answers with what others claim too of
    /// that which is new.
    fn claim(
        &mut self,
        service: &ObjectName,
        had: &[ServicePort],
        ports: &[ServicePort],
    ) -> Vec<Contest> {
        let frontends = |ports: &[ServicePort]| -> BTreeSet<Frontend> {
            ports.iter().flat_map(ServicePort::frontends).collect()
        };
        let (before, after) = (frontends(had), frontends(ports));
        for frontend in before.difference(&after) {
            if let Some(claims) = self.claims.get_mut(frontend) {
                claims.remove(service);
                if claims.is_empty() {
                    self.claims.remove(frontend);
                }
            }
        }
        let mut contests = Vec::new();
        for frontend in after.difference(&before) {
            let claims = self.claims.entry(*frontend).or_default();
            claims.insert(service.clone());
            if claims.len() > 1 {
                contests.push(Contest {
                    frontend: *frontend,
                    services: claims.iter().cloned().collect(),
                });
            }
        }
        contests
    }

    /// The chains that addresses and ports are looked up in.
    fn lists(&self) -> Chains {
        let mut lists: BTreeMap<List, Vec<Entry>> = BTreeMap::new();
        for ports in self.services.values() {
            for entry in self.entries_of(ports) {
                lists.entry(entry.list).or_default().push(entry);
            }
        }
        let mut chains = Chains::new();
        for list in List::ALL {
            if !list.is_of(&self.settings) {
                continue;
            }
            let entries = lists.remove(&list).unwrap_or_default();
            let mut rules = match self.settings.dispatch {
                Dispatch::Flat => entries.into_iter().map(|entry| entry.rule).collect(),
                Dispatch::Tree => list.trees(self.settings.family, entries, &mut chains),
            };
            rules.extend(list.last_rules(&self.settings));
            chains.insert(list.entry(), rules);
        }
        chains
    }
}

// === impl List ===

impl List {
    /// Adds the chains of the trees for some entries; answers with the rules that lead there.
    fn trees(self, family: Family, entries: Vec<Entry>, chains: &mut Chains) -> Vec<String> {
        let mut by_key: BTreeMap<Key, Vec<String>> = BTreeMap::new();
        for Entry { key, rule, .. } in entries {
            let rules = by_key.entry(key).or_default();
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
        let mut by_protocol: BTreeMap<Option<Protocol>, Vec<_>> = BTreeMap::new();
        for item in by_key {
            let protocol = match item.0 {
                Key::Address(_) => None,
                Key::Port(protocol, _) => Some(protocol),
            };
            by_protocol.entry(protocol).or_default().push(item);
        }
        let (table, prefix) = (self.entry().table, self.tree_prefix());
        let rules = by_protocol.into_iter().flat_map(|(protocol, items)| {
            let space = protocol.map_or(Space::Addresses(family), Space::Ports);
            let tree = Tree {
                table,
                prefix,
                space,
            };
            tree.grow(&items, chains)
        });
        rules.collect()
    }

    /// Whether there is such a list.
    fn is_of(self, settings: &Settings) -> bool {
        match self {
            Self::LocalServices | Self::LocalNodePorts => settings.beside_ipvs,
            Self::Unserved => true,
            Self::UnservedNodePorts => !settings.beside_ipvs && settings.dispatch != Dispatch::Flat,
            _ => !settings.beside_ipvs,
        }
    }

    /// What follows all entries.
    fn last_rules(self, settings: &Settings) -> Vec<String> {
        match (self, settings.dispatch) {
            (Self::Services, _) => skeleton::to_node_ports(settings),
            (Self::Unserved, _) if settings.beside_ipvs => beside_ipvs::unserved(settings),
            (Self::Unserved, Dispatch::Tree) => skeleton::unallocated(settings),
            (Self::UnservedExternal, Dispatch::Tree) => skeleton::to_unserved_node_ports(settings),
            _ => Vec::new(),
        }
    }
}

/// How many more rules there are by table in some chains than in others.
fn more_rules(before: &Chains, after: &Chains) -> BTreeMap<Table, isize> {
    let mut more = BTreeMap::new();
    for (chains, sign) in [(before, -1), (after, 1)] {
        for (chain, rules) in chains {
            *more.entry(chain.table).or_default() += sign * rules.len().cast_signed();
        }
    }
    more
}

/// What has to become of chains for some to take the place of others.
fn replaced(mut before: Chains, after: Chains) -> BTreeMap<ChainId, Option<Vec<String>>> {
    let mut changes = BTreeMap::new();
    for (chain, rules) in after {
        if before.remove(&chain).as_ref() != Some(&rules) {
            changes.insert(chain, Some(rules));
        }
    }
    changes.extend(before.into_keys().map(|chain| (chain, None)));
    changes
}
