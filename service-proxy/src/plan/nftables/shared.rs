//! What several frontends can need at once, counted so that it goes when the last one does.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{delta::Delta, elements::Elements};
use crate::plan::{Balance, Frontend};

/// Something that several frontends can need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// The chain for a number of endpoints.
    Balance(usize),
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
        let touched: BTreeSet<Need> = changes.gone.iter().chain(&changes.new).copied().collect();
        let before: BTreeSet<Need> = touched
            .iter()
            .copied()
            .filter(|need| self.counts.contains_key(need))
            .collect();
        for need in changes.new {
            *self.counts.entry(need).or_default() += 1;
        }
        for need in changes.gone {
            self.release(need);
        }
        for need in touched {
            match (before.contains(&need), self.counts.contains_key(&need)) {
                (false, true) => delta.need(need),
                (true, false) => delta.no_longer_need(need),
                _ => {}
            }
        }
    }

    /// Adds the elements for all that is needed.
    pub fn fill(&self, elements: &mut Elements) {
        for need in self.counts.keys() {
            elements.add_need(*need);
        }
    }

    /// The different numbers of endpoints.
    pub fn endpoint_counts(&self) -> impl Iterator<Item = usize> {
        self.counts.keys().filter_map(|need| match need {
            Need::Balance(count) => Some(*count),
            Need::ClusterIp(_) | Need::Hairpin(_) => None,
        })
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
    let here = balance.backends.iter().filter(|backend| backend.here);
    let hairpins = here.map(|backend| Need::Hairpin(backend.address));
    let count = balance.backends.len();
    let chain = (count > 0).then_some(Need::Balance(count));
    hairpins
        .chain(chain)
        .chain([Need::ClusterIp(frontend.address)])
        .collect()
}
