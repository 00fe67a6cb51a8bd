//! When what is known of other nodes last changed.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use ipnetwork::IpNetwork;
use kernel::Family;

use crate::plan::Peer;

/// The other nodes as they were known last, each with when that began.
#[derive(Debug, Default)]
pub struct PeerChanges {
    since: BTreeMap<IpNetwork, (Peer, Duration)>,
}

// === impl PeerChanges ===

impl PeerChanges {
    /// Notes all peers of a family.
    pub fn note(&mut self, family: Family, peers: &BTreeMap<IpNetwork, Peer>) {
        self.since
            .retain(|subnet, _| Family::of_network(subnet) != family || peers.contains_key(subnet));
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        for (subnet, peer) in peers {
            let known = self.since.entry(*subnet).or_insert((*peer, now));
            if known.0 != *peer {
                *known = (*peer, now);
            }
        }
    }

    /// When what is known of a subnet's node last changed, since 1970.
    pub fn since(&self, subnet: &IpNetwork) -> Duration {
        let known = self.since.get(subnet);
        known.map_or(Duration::ZERO, |(_, since)| *since)
    }
}
