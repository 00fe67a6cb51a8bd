//! nftables: Services as elements of a few shared maps.
//!
//! A new connection is looked up once in the map `services` by address, protocol and port, which leads to
//! the chain for that many endpoints; that chain draws a slot and looks up the endpoint in the map
//! `endpoints` by the same address and the slot. So the number of rules depends on nothing but how many
//! *different* numbers of endpoints there are, and a change of a Service is a change of its elements.

mod adopt;
mod claim;
mod delta;
mod elements;
mod involved;
mod layout;
mod node_rules;
mod pool;
mod sessions;
mod shared;
mod slots;
mod sources;
mod start;
mod sticky;

use std::{collections::BTreeMap, net::IpAddr};

use kernel::{
    Family,
    nft::{ObservedSet, ObservedTable, Table, Transaction, diff},
};

use self::{
    claim::Claim, elements::Elements, layout::Skeleton, sessions::Sessions, shared::Shared,
};
use super::{Address, Balance, Frontend};
use crate::model::{ObjectName, Protocol};

pub use delta::{Contest, Delta};
pub use involved::Involved;
pub use layout::{
    Balancer, IPVS_TABLE, NODE_PORT_NETWORKS, TABLE, UNSERVED, VIRTUAL_ADDRESSES, VIRTUAL_SERVERS,
    capacity,
};
pub use node_rules::{Mark, NodePortAddresses, NodeRules, Pods, Surroundings, loopback};
pub use sessions::kept;

/// What should stand in one family's table, kept by Service so that a change costs what it changes.
#[derive(Debug)]
pub struct Plan {
    skeleton: Skeleton,
    /// The frontends of each, in order.
    services: BTreeMap<ObjectName, Box<[Frontend]>>,
    /// Who claims a frontend, by name. Two Services with one address are a mistake; the first has it. Nearly
    /// always there is one, for which a map would take ten times the memory.
    claims: BTreeMap<Frontend, Vec<Claim>>,
    sessions: Sessions,
    shared: Shared,
    /// How many elements each set has.
    lengths: BTreeMap<&'static str, usize>,
}

// === impl Plan ===

impl Plan {
    /// A plan without Services.
    pub fn new(family: Family, node: NodeRules) -> Self {
        Self::with(family, node, Balancer::Maps)
    }

    /// The same, with somebody who spreads connections.
    pub fn with(family: Family, node: NodeRules, balancer: Balancer) -> Self {
        Self {
            skeleton: Skeleton::new(family, node, balancer),
            services: BTreeMap::new(),
            claims: BTreeMap::new(),
            sessions: Sessions::default(),
            shared: Shared::default(),
            lengths: BTreeMap::new(),
        }
    }

    /// The family.
    pub fn family(&self) -> Family {
        self.skeleton.family
    }

    /// The name of the table.
    pub fn table_name(&self) -> &'static str {
        self.skeleton.balancer.table()
    }

    /// Takes in what of the rules is the same for all Services; answers whether the rules are others now.
    pub fn set_rules(&mut self, options: NodeRules, around: &Surroundings) -> bool {
        self.skeleton.options = options;
        self.skeleton.settle(around)
    }

    /// Takes in what is known of the node and of networks; answers whether the rules are others now, so that all
    /// has to be compared.
    pub fn settle(&mut self, around: &Surroundings) -> bool {
        self.skeleton.settle(around)
    }

    /// Takes in what Services are now where everything will be compared with the kernel anyway; answers with
    /// what several claim. What a delta says of a whole cluster takes several times the memory that stays.
    pub fn load(
        &mut self,
        services: impl Iterator<Item = (ObjectName, BTreeMap<Frontend, Balance>)>,
    ) -> Vec<Contest> {
        services
            .flat_map(|service| self.update(BTreeMap::from([service])).contests)
            .collect()
    }

    /// Takes in what Services are now, each with all of its frontends; answers with what that changes.
    pub fn update(&mut self, services: BTreeMap<ObjectName, BTreeMap<Frontend, Balance>>) -> Delta {
        let before = self.touched(&services);
        let mut delta = Delta::new(self.family(), self.table_name());
        for (service, mut frontends) in services {
            for (frontend, balance) in &mut frontends {
                if let Some(Some(Claim {
                    balance: before, ..
                })) = before.get(frontend)
                {
                    slots::keep(&before.backends, &mut balance.backends);
                    slots::keep(&before.local, &mut balance.local);
                }
            }
            self.sessions.update(&service, &mut frontends);
            delta.contests.extend(self.replace(service, frontends));
        }
        let mut needs = shared::Changes::default();
        for (frontend, before) in before {
            let after = self.claim(&frontend);
            if before.as_ref() == after {
                continue;
            }
            if let Some(claim) = &before {
                delta.before.add_frontend(&frontend, claim);
                needs.remove(&frontend, claim);
            }
            if let Some(claim) = after {
                delta.after.add_frontend(&frontend, claim);
                needs.add(&frontend, claim);
            }
        }
        self.shared.apply(needs, &mut delta);
        delta.outgrown = self.resize(&delta);
        delta
    }

    /// All that should stand in the kernel.
    pub fn table(&self) -> Table {
        let mut elements = Elements::default();
        for frontend in self.claims.keys() {
            if let Some(claim) = self.claim(frontend) {
                elements.add_frontend(frontend, claim);
            }
        }
        self.shared.fill(&mut elements);
        self.skeleton.table(self.shared.chains(), elements)
    }

    /// What makes a table that was read the one that should stand, with the room that its sets have: to shrink one,
    /// the table would have to be made anew, and again when the cluster has grown back.
    pub fn differences(&self, have: Option<&ObservedTable>, mut want: Table) -> Vec<Transaction> {
        let Some(have) = have else {
            return self.cold_start(want);
        };
        for (name, set) in &mut want.sets {
            if let Some(ObservedSet::Known(have)) = have.sets.get(name) {
                set.size = set.size.max(have.size);
            }
        }
        diff(Some(have), &want)
    }

    /// What is the same for all Services, in the node's surroundings.
    pub fn node(&self) -> &NodeRules {
        &self.skeleton.node
    }

    /// Where connections to a frontend go, if any Service has it.
    pub fn balance(&self, frontend: &Frontend) -> Option<&Balance> {
        self.claim(frontend).map(|claim| &claim.balance)
    }

    /// All frontends.
    pub fn frontends(&self) -> impl Iterator<Item = &Frontend> {
        self.claims.keys()
    }

    /// The frontends that a Service claims.
    pub fn frontends_of(&self, service: &ObjectName) -> &[Frontend] {
        self.services.get(service).map_or(&[], |it| it)
    }

    /// Whether any frontend has an address of its own.
    pub fn has_address(&self, address: IpAddr) -> bool {
        let own = |protocol, port| Frontend {
            address: Address::Own(address),
            protocol,
            port,
        };
        let range = own(Protocol::Tcp, 0)..=own(Protocol::Sctp, u16::MAX);
        self.claims.range(range).next().is_some()
    }

    /// Who has the frontends that Services have or will have.
    fn touched(
        &self,
        services: &BTreeMap<ObjectName, BTreeMap<Frontend, Balance>>,
    ) -> BTreeMap<Frontend, Option<Claim>> {
        let known = services
            .keys()
            .filter_map(|service| self.services.get(service))
            .flatten();
        let coming = services.values().flat_map(BTreeMap::keys);
        known
            .chain(coming)
            .map(|frontend| (*frontend, self.claim(frontend).cloned()))
            .collect()
    }

    /// Where connections to a frontend go.
    fn claim(&self, frontend: &Frontend) -> Option<&Claim> {
        self.claims.get(frontend)?.first()
    }

    /// Puts all that a Service claims in the place of what it claimed; answers with what others claim too
    /// of that which it had not claimed before.
    fn replace(
        &mut self,
        service: ObjectName,
        frontends: BTreeMap<Frontend, Balance>,
    ) -> Vec<Contest> {
        let before = self.services.remove(&service).unwrap_or_default();
        for frontend in &before {
            if let Some(claims) = self.claims.get_mut(frontend) {
                claims.retain(|claim| *claim.service() != service);
                if claims.is_empty() {
                    self.claims.remove(frontend);
                }
            }
        }
        if frontends.is_empty() {
            return Vec::new();
        }
        let new: Vec<_> = frontends
            .keys()
            .filter(|frontend| !before.contains(frontend))
            .copied()
            .collect();
        self.services
            .insert(service, frontends.keys().copied().collect());
        for (frontend, balance) in frontends {
            let numbers = self.sessions.numbers(&balance).map(Box::new);
            let claim = Claim {
                balance,
                numbers,
                balancer: self.skeleton.balancer,
            };
            let claims = self.claims.entry(frontend).or_default();
            let place = claims.partition_point(|other| other.service() < claim.service());
            claims.reserve_exact(1);
            claims.insert(place, claim);
        }
        new.into_iter()
            .filter_map(|frontend| self.contest(frontend))
            .collect()
    }

    /// Who claims a frontend, if several do.
    fn contest(&self, frontend: Frontend) -> Option<Contest> {
        let claims = self.claims.get(&frontend)?;
        (claims.len() > 1).then(|| Contest {
            frontend,
            services: claims.iter().map(Claim::service).cloned().collect(),
        })
    }

    /// Takes note of how many elements there are; answers whether a set has to be made anew for them.
    fn resize(&mut self, delta: &Delta) -> bool {
        let mut outgrown = false;
        for set in layout::sets() {
            let length = self.lengths.entry(set).or_default();
            let before = layout::capacity(set, *length);
            *length = *length + delta.after.of(set).len() - delta.before.of(set).len();
            outgrown |= layout::capacity(set, *length) > before;
        }
        outgrown
    }
}
