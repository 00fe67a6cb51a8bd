//! The rules that a packet to one frontend meets, from the first chain of ours to an endpoint.

use std::{collections::BTreeSet, net::SocketAddr};

use kernel::Family;

use super::{
    Plan, ServicePort,
    canonical::{canonical, target},
    difference::Observed,
    entries::{Entry, Key, List},
    name,
    ruleset::{ChainId, Chains, Table},
};
use crate::plan::{Address, Backend, Frontend};

/// A rule of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Involved {
    /// The chain.
    pub chain: ChainId,
    /// The rule, as it follows `-A CHAIN`.
    pub rule: String,
}

// === impl Involved ===

impl Involved {
    /// The command that would add it.
    pub fn command(&self, family: Family) -> String {
        let program = match family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        let table = self.chain.table.name();
        format!("{program} -t {table} -A {} {}", self.chain.name, self.rule)
    }
}

// === impl Plan ===

impl Plan {
    /// The Service port that a frontend is of.
    pub fn port_of(&self, frontend: &Frontend) -> Option<&ServicePort> {
        let claim = self.claims.get(frontend).and_then(BTreeSet::first)?;
        let mut ports = self.ports_of(claim).iter();
        ports.find(|port| port.frontends().any(|it| it == *frontend))
    }

    /// The rules for a frontend: those that lead there, and all that can come then. What it shares with others, as
    /// the marking for masquerading, is left out.
    pub fn involved(&self, frontend: &Frontend) -> Vec<Involved> {
        let mut involved = Vec::new();
        if let Some(port) = self.port_of(frontend) {
            let chains = self.chains_of(std::slice::from_ref(port));
            for entry in self.entries_of(std::slice::from_ref(port)) {
                if entry.is_for(frontend) {
                    self.follow(&entry, &chains, &mut involved);
                }
            }
        }
        involved
    }

    /// The lists in which clients of a frontend are remembered, each with the endpoint that they keep, in the order in
    /// which they are looked in.
    pub fn remembered(&self, frontend: &Frontend) -> Vec<(String, SocketAddr)> {
        let port = self.port_of(frontend);
        let Some(port) = port.filter(|port| port.affinity.is_some()) else {
            return Vec::new();
        };
        let list = |backend: Backend| {
            let address = SocketAddr::new(backend.address, backend.port);
            (name::endpoint(&port.name, &backend), address)
        };
        port.backends().into_iter().map(list).collect()
    }

    /// Adds the way to an entry and what follows it.
    fn follow(&self, entry: &Entry, chains: &Chains, involved: &mut Vec<Involved>) {
        let mut way = Vec::new();
        let mut rule = entry.rule.clone();
        // Each step is to the only rule that leads to where the last one was found.
        while let Some((chain, found)) = self.lists.iter().find_map(|(chain, rules)| {
            let same_table = chain.table == entry.list.entry().table;
            let found = rules
                .iter()
                .find(|it| **it == rule || target(it) == Some(&rule));
            found.filter(|_| same_table).map(|found| (chain, found))
        }) {
            way.push(Involved {
                chain: chain.clone(),
                rule: found.clone(),
            });
            if way.len() > usize::from(u8::MAX) || chain.name == entry.list.entry().name {
                break;
            }
            rule = chain.name.clone();
        }
        way.reverse();
        add(way, involved);
        let mut next: Vec<_> = target(&entry.rule).map(str::to_owned).into_iter().collect();
        while let Some(name) = next.pop() {
            let chain = Table::Nat.chain(name);
            let rules = chains.get(&chain).into_iter().flatten();
            let rules: Vec<_> = rules
                .map(|rule| Involved {
                    chain: chain.clone(),
                    rule: rule.clone(),
                })
                .collect();
            let targets = rules.iter().rev().filter_map(|it| target(&it.rule));
            next.extend(targets.map(str::to_owned));
            add(rules, involved);
        }
    }
}

// === impl Entry ===

impl Entry {
    /// Whether it is met by packets to a frontend.
    fn is_for(&self, frontend: &Frontend) -> bool {
        let looked_up = match (self.list, self.key) {
            (List::HealthChecks, _) => false,
            (_, Key::Address(address)) => frontend.address == Address::Own(address),
            (_, Key::Port(protocol, port)) => {
                frontend.address == Address::Node
                    && (frontend.protocol, frontend.port) == (protocol, port)
            }
        };
        // What is for all ports of an address comes behind.
        looked_up && self.rule.contains("--dport")
    }
}

// === impl Observed ===

impl Observed {
    /// Whether a rule stands.
    pub fn has_rule(&self, involved: &Involved) -> bool {
        let wanted = canonical(&involved.rule);
        self.rules(&involved.chain)
            .iter()
            .any(|rule| canonical(rule) == wanted)
    }
}

fn add(rules: Vec<Involved>, involved: &mut Vec<Involved>) {
    for rule in rules {
        if !involved.contains(&rule) {
            involved.push(rule);
        }
    }
}
