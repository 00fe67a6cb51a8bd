//! What several frontends can need at once, counted so that it goes when the last one does.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnetwork::IpNetwork;
use kernel::nft::Chain;

use super::{delta::Delta, elements::Elements, pool::Pool, sources};
use crate::plan::{Address, Balance, Entrance, Frontend};

/// Something that several frontends can need.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// The chain of a pool for a number of endpoints.
    Balance(Pool, usize),
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
            Self::ClusterIp(_) | Self::Hairpin(_) => None,
        }
    }
}

// === impl Changes ===

impl Changes {
    /// A frontend no longer leads there.
    pub fn remove(&mut self, frontend: &Frontend, balance: &Balance) {
        self.gone.extend(needs(frontend, balance));
    }

    /// A frontend leads there now.
    pub fn add(&mut self, frontend: &Frontend, balance: &Balance) {
        self.new.extend(needs(frontend, balance));
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
fn needs(frontend: &Frontend, balance: &Balance) -> BTreeSet<Need> {
    let Balance {
        backends, local, ..
    } = balance;
    let here = backends.iter().chain(local).filter(|backend| backend.here);
    let hairpins = here.map(|backend| Need::Hairpin(backend.address));
    let chains = [(backends, false), (local, true)]
        .into_iter()
        .filter(|(backends, _)| !backends.is_empty())
        .map(|(backends, local)| Need::Balance(Pool::of(frontend, local), backends.len()));
    let cluster_ip = match (frontend.address, balance.entrance) {
        (Address::Own(address), Entrance::Internal) => Some(Need::ClusterIp(address)),
        _ => None,
    };
    hairpins
        .chain(chains)
        .chain(cluster_ip)
        .chain(balance.sources.clone().map(Need::Sources))
        .collect()
}
