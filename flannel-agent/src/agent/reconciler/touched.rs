//! Following the leases that change, one by one: where all is as it should be, a changed lease costs its own
//! entries, however many there are. What can't be told so is left to a reconcile of everything.

use std::collections::{BTreeMap, BTreeSet};

use kernel::{Family, route::IfIndex, wireguard::PublicKey};

use super::Reconciler;
use crate::{
    model::{Held, Lease, LeaseKey, Snapshot},
    plan::{self, ChangedPeers, Place, Tunnels},
};

/// The leases that have changed: as they were, and as they are.
#[derive(Default)]
struct Touched<'a> {
    before: BTreeSet<LeaseKey>,
    now: BTreeMap<LeaseKey, &'a Lease>,
}

// === impl Touched ===

impl<'a> Touched<'a> {
    /// `None` where that isn't known, or one of them is none, or no good, of which notices have to tell.
    fn since(position: u64, held: &Held, snapshot: &'a Snapshot) -> Option<Self> {
        let mut touched = Self::default();
        let mut names = BTreeSet::new();
        for it in snapshot.touched_since(position)? {
            if let Some(before) = &it.before {
                touched.before.insert(*before.as_ref().ok()?);
            }
            if names.insert(&it.name)
                && let Some(entry) = snapshot.entry(&it.name)
            {
                let lease = entry.lease.as_ref().ok()?;
                if touched.now.insert(lease.key, lease).is_some() {
                    return None;
                }
            }
        }
        // This node's own lease is no peer's.
        touched.before.remove(&held.key);
        touched.now.remove(&held.key);
        Some(touched)
    }
}

// === impl Reconciler ===

impl Reconciler {
    /// Carries out what the changed leases ask for. Answers whether that could be done so.
    pub(super) fn follow_touched(&mut self, held: &Held, snapshot: &Snapshot) -> bool {
        let Some(position) = self.position.take() else {
            return false;
        };
        let Some(touched) = Touched::since(position, held, snapshot) else {
            return false;
        };
        let mut all = Vec::new();
        let places: Vec<_> = self
            .watched
            .standing
            .iter()
            .map(|(_, it)| *it.place())
            .collect();
        for place in places {
            match self.changed_peers(&place, held, &touched) {
                Some(changed) => all.push((place.family, changed)),
                None => return false,
            }
        }
        let before = self.kernel.sent();
        let keys = self.keys(&all);
        let tunnels = self.tunnels_of(&keys);
        let done = all
            .into_iter()
            .all(|(family, changed)| self.change(family, changed))
            && self.change_tunnels(&tunnels, &keys);
        let changes = self.kernel.sent() - before;
        if changes > 0 {
            tracing::info!("reconciled: {changes} changes");
        }
        if done {
            let all = snapshot.entries.len() + snapshot.lingering.len();
            let invalid = self.invalid;
            self.metrics.leases(all.saturating_sub(invalid), invalid);
            self.metrics.applied();
            self.position = Some(snapshot.position());
        }
        done
    }

    /// The peers that the subnets of the leases have now; `None` if that can't be told from these alone.
    fn changed_peers(
        &mut self,
        place: &Place,
        held: &Held,
        touched: &Touched<'_>,
    ) -> Option<ChangedPeers> {
        let own = self.site.own();
        let backend = self.site.backend().clone();
        let subnets = touched
            .before
            .iter()
            .filter_map(|it| it.subnet(place.family));
        let mut changed: ChangedPeers = subnets.map(|subnet| (subnet, None)).collect();
        for lease in touched.now.values() {
            let Some(subnet) = lease.key.subnet(place.family) else {
                continue;
            };
            let peer = plan::peer(place.family, &backend, &own, lease, &held.key).ok()??;
            let standing = self.watched.standing.get(place.family)?;
            match changed.insert(subnet, Some(peer)) {
                Some(Some(_)) => return None,
                None if standing.has(subnet) => return None,
                _ => {}
            }
        }
        let standing = self.watched.standing.get(place.family)?;
        if !standing.can_tell(&changed) {
            return None;
        }
        if self.site.routes_directly() {
            self.route_directly(&mut changed, place)?;
        }
        Some(changed)
    }

    /// Has those that are on the link reached without a tunnel; `None` if the kernel does not tell.
    fn route_directly(&mut self, changed: &mut ChangedPeers, place: &Place) -> Option<()> {
        let addresses = changed.values().flatten().map(|peer| peer.address);
        let on_link = self.on_link(addresses.collect(), place.underlay).ok()?;
        for peer in changed.values_mut().flatten() {
            peer.route_directly(&on_link);
        }
        Some(())
    }

    /// Whom the tunnels lead to that change.
    fn keys(&self, all: &[(Family, ChangedPeers)]) -> BTreeSet<PublicKey> {
        let standing = &self.watched.standing;
        let keys = |(family, changed): &(Family, ChangedPeers)| {
            let standing = standing.get(*family);
            standing.map(|it| it.keys(changed)).unwrap_or_default()
        };
        all.iter().flat_map(keys).collect()
    }

    /// The tunnels of these keys, as they are known to stand.
    fn tunnels_of(&self, keys: &BTreeSet<PublicKey>) -> BTreeMap<IfIndex, (Family, Tunnels)> {
        let standing = self.watched.standing.iter();
        let all = standing.map(|(_, it)| (it.place(), it.by_subnet()));
        plan::tunnels(all, |key| keys.contains(key))
    }

    /// Has the tunnels of some keys follow what stands now. Answers whether the kernel has taken all of it.
    fn change_tunnels(
        &mut self,
        before: &BTreeMap<IfIndex, (Family, Tunnels)>,
        keys: &BTreeSet<PublicKey>,
    ) -> bool {
        let now = self.tunnels_of(keys);
        before.iter().all(|(device, (_, before))| {
            let none = Tunnels::default();
            let now = now.get(device).map_or(&none, |(_, tunnels)| tunnels);
            match self.site.change_tunnels(*device, before, now) {
                Ok(true) => {
                    tracing::info!("reconciled: WireGuard to {} nodes", now.0.len());
                    true
                }
                Ok(false) => true,
                // Everything is read and compared then, which tells what is wrong.
                Err(_) => false,
            }
        })
    }

    /// Answers whether the kernel has taken all of it.
    fn change(&mut self, family: Family, changed: ChangedPeers) -> bool {
        self.peer_changes.note_changed(&changed);
        let standing = &mut self.watched.standing;
        let Some(standing) = standing.get_mut(family) else {
            return false;
        };
        let changes = standing.change(changed);
        let peers = standing.peers();
        let mut notices = Vec::new();
        let outcome = self.apply(&changes, &mut notices);
        self.metrics.programmed(family, peers);
        outcome.is_ok() && notices.is_empty()
    }
}
