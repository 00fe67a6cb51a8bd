//! What several frontends can need at once, counted so that it goes when the last one does.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnetwork::IpNetwork;
use kernel::nft::Chain;

use super::{Claim, delta::Delta, elements::Elements, pool::Pool, sources, sticky::Sticky};
use crate::{
    model::Protocol,
    plan::{Address, Backend, Entrance, Frontend},
};

/// Something that several frontends can need.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// The chain of a pool for a number of endpoints.
    Balance(Pool, usize),
    /// The chain in which clients keep their endpoints.
    Sticky(Sticky),
    /// A slot of a Service port whose clients keep their endpoints.
    SessionSlot {
        /// Of the endpoints on this node, or of the cluster.
        local: bool,
        /// The number of the Service port.
        service: u32,
        /// The slot.
        slot: u32,
        /// The number of the endpoint.
        endpoint: u32,
    },
    /// An endpoint that clients keep.
    SessionEndpoint {
        /// Of the endpoints on this node, or of the cluster.
        local: bool,
        /// Its protocol.
        protocol: Protocol,
        /// Its number.
        number: u32,
        /// Its address.
        address: IpAddr,
        /// Its port.
        port: u16,
    },
    /// The chain for a list of networks.
    Sources(Vec<IpNetwork>),
    /// The address is known as a cluster IP.
    ClusterIp(IpAddr),
    /// An endpoint can reach itself.
    Hairpin(IpAddr),
}

/// How many frontends need what.
#[derive(Debug, Default)]
pub struct Shared {
    counts: BTreeMap<Need, usize>,
}

/// Needs that come and go.
#[derive(Debug, Default)]
pub struct Changes {
    gone: Vec<Need>,
    new: Vec<Need>,
}

// === impl Need ===

impl Need {
    /// The chain that it is, if it is one, and its name.
    pub fn chain(&self) -> Option<(String, Chain)> {
        match self {
            Self::Balance(pool, count) => Some((pool.chain_name(*count), pool.chain(*count))),
            Self::Sources(sources) => Some((sources::chain_name(sources), sources::chain(sources))),
            Self::Sticky(sticky) => Some((sticky.chain_name(), sticky.chain())),
            Self::ClusterIp(_)
            | Self::Hairpin(_)
            | Self::SessionSlot { .. }
            | Self::SessionEndpoint { .. } => None,
        }
    }
}

// === impl Changes ===

impl Changes {
    /// A frontend no longer leads there.
    pub fn remove(&mut self, frontend: &Frontend, claim: &Claim) {
        self.gone.extend(needs(frontend, claim));
    }

    /// A frontend leads there now.
    pub fn add(&mut self, frontend: &Frontend, claim: &Claim) {
        self.new.extend(needs(frontend, claim));
    }
}

// === impl Shared ===

impl Shared {
    /// Counts anew, and adds to a delta what is needed for the first time or no longer.
    pub fn apply(&mut self, changes: Changes, delta: &mut Delta) {
        let touched: BTreeSet<Need> = changes.gone.iter().chain(&changes.new).cloned().collect();
        let before: BTreeSet<Need> = touched
            .iter()
            .filter(|need| self.counts.contains_key(*need))
            .cloned()
            .collect();
        for need in changes.new {
            *self.counts.entry(need).or_default() += 1;
        }
        for need in changes.gone {
            self.release(need);
        }
        for need in touched {
            match (before.contains(&need), self.counts.contains_key(&need)) {
                (false, true) => delta.need(&need),
                (true, false) => delta.no_longer_need(&need),
                _ => {}
            }
        }
    }

    /// Adds the elements for all that is needed.
    pub fn fill(&self, elements: &mut Elements) {
        for need in self.counts.keys() {
            elements.add_need(need);
        }
    }

    /// The chains that are needed.
    pub fn chains(&self) -> impl Iterator<Item = (String, Chain)> {
        self.counts.keys().filter_map(Need::chain)
    }

    fn release(&mut self, need: Need) {
        if let Some(count) = self.counts.get_mut(&need) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&need);
            }
        }
    }
}

/// What a frontend needs, each once.
pub fn needs(frontend: &Frontend, claim: &Claim) -> BTreeSet<Need> {
    let balance = &claim.balance;
    let both = || balance.backends.iter().chain(&balance.local);
    let here = both().filter(|backend| backend.here);
    let hairpins = here.map(|backend| Need::Hairpin(backend.address));
    let chains = claim
        .shares(frontend)
        .map(|share| Need::Balance(share.pool, share.backends.len()));
    let cluster_ip = match (frontend.address, balance.entrance) {
        (Address::Own(address), Entrance::Internal) => Some(Need::ClusterIp(address)),
        _ => None,
    };
    hairpins
        .chain(chains)
        .chain(cluster_ip)
        .chain(balance.sources.clone().map(Need::Sources))
        .chain(session_needs(frontend, claim))
        .collect()
}

/// What it needs for its clients to keep their endpoints.
fn session_needs(frontend: &Frontend, claim: &Claim) -> Vec<Need> {
    let mut needs = Vec::new();
    let Some(numbers) = &claim.numbers else {
        return needs;
    };
    for share in claim.shares(frontend) {
        needs.extend(claim.sticky(&share).map(Need::Sticky));
        let slots = (0..).zip(share.backends).zip(share.numbers);
        needs.extend(slots.flat_map(|((slot, backend), id)| {
            slot_needs(
                share.local,
                frontend.protocol,
                (numbers.service, slot, *id),
                backend,
            )
        }));
    }
    needs
}

fn slot_needs(
    local: bool,
    protocol: Protocol,
    (service, slot, endpoint): (u32, u32, u32),
    backend: &Backend,
) -> [Need; 2] {
    [
        Need::SessionSlot {
            local,
            service,
            slot,
            endpoint,
        },
        Need::SessionEndpoint {
            local,
            protocol,
            number: endpoint,
            address: backend.address,
            port: backend.port,
        },
    ]
}
