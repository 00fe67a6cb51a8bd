//! Which subnet a node takes, and on which condition.

mod choice;

use ipnetwork::IpNetwork;

pub use choice::Full;
use choice::{choose, fits, overlap};

use crate::model::{
    Attributes, ByFamily, Claim, Entry, Guard, Held, LeaseKey, Owner, Owners, Pool, Snapshot,
};

/// Who claims a subnet.
#[derive(Clone, Debug)]
pub struct Claimant {
    /// The subnets that there are.
    pub pools: ByFamily<Pool>,
    /// What identifies the node in hashes.
    pub node: String,
    /// What it says in its lease; its public address identifies it there to flanneld.
    pub own: Attributes,
    /// What identifies it there to others of its kind.
    pub owner: Owner,
}

/// What a node knows of its lease so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct History {
    /// The lease that it holds.
    pub written: Option<Held>,
    /// The lease that it held until it vanished, which is to be taken again before any other.
    pub gone: Option<LeaseKey>,
    /// The lease that another node has taken from it, which is not to be taken back.
    pub lost: Option<LeaseKey>,
    /// The subnets that it had before.
    pub previous: ByFamily<IpNetwork>,
}

// === impl Claimant ===

impl Claimant {
    /// Chooses: the lease that the node has, or else the subnets that it had before, or else free ones,
    /// beginning from a place that depends on nothing but the node. So a node gets its subnet back even
    /// if both etcd and the node have forgotten it, and nodes that start together rarely want the same.
    ///
    /// What stands as this node wrote it is its own whatever address it says, so that a node keeps its
    /// subnet when its address changes.
    ///
    /// # Errors
    /// If no subnet is free.
    pub fn claim(
        &self,
        history: &History,
        snapshot: &Snapshot,
        owners: &Owners,
    ) -> Result<Claim, Full> {
        let mine = self.mine(history, snapshot, owners);
        if let Some(claim) = self.again(history, mine, snapshot) {
            return Ok(claim);
        }
        if let Some((key, entry)) = mine.filter(|(key, _)| fits(&self.pools, key)) {
            return Ok(Claim {
                key,
                guard: Guard::Unchanged {
                    mod_revision: entry.mod_revision,
                    reservation: entry.is_reservation(),
                },
            });
        }
        let outdated = outdated(mine);
        let others: Vec<LeaseKey> = snapshot
            .keys()
            .map(|(key, _)| key)
            .filter(|key| outdated.is_none_or(|(outdated, _)| outdated != *key))
            .collect();
        let mut subnets = ByFamily::default();
        for (family, pool) in self.pools.iter() {
            let wishes = [
                outdated.and_then(|(key, _)| key.subnet(family)),
                history.previous.get(family).copied(),
            ];
            subnets.insert(family, choose(family, pool, &self.node, wishes, &others)?);
        }
        Ok(Claim {
            key: subnets.into(),
            guard: Guard::Free { outdated },
        })
    }

    /// The lease that vanished under this node, if nobody has it by now. What else is there of this node
    /// is from before, as a store tells that was restored, unless an operator wants the node there.
    fn again(
        &self,
        history: &History,
        mine: Option<(LeaseKey, &Entry)>,
        snapshot: &Snapshot,
    ) -> Option<Claim> {
        let key = history.gone.filter(|gone| fits(&self.pools, gone))?;
        let outdated = outdated(mine);
        let is_other = |other: &LeaseKey| outdated.is_none_or(|(old, _)| old != *other);
        let mut others = snapshot.keys().map(|(other, _)| other).filter(is_other);
        let is_moved = mine.is_some_and(|(_, entry)| entry.is_reservation());
        (!is_moved && !others.any(|other| overlap(&key, &other))).then_some(Claim {
            key,
            guard: Guard::Free { outdated },
        })
    }

    /// The leases that say this node's public address, but are of other nodes.
    pub fn namesakes<'a>(
        &'a self,
        snapshot: &'a Snapshot,
        owners: &'a Owners,
    ) -> impl Iterator<Item = (LeaseKey, &'a Owner)> {
        snapshot.leases().filter_map(|lease| {
            let owner = owners.of(&lease.key.to_string())?;
            let same_address = lease.attributes.is_same_node(&self.own);
            let is_other = same_address && !owner.is_same_node(&self.owner, true, false);
            is_other.then_some((lease.key, owner))
        })
    }

    /// The node's own entry; of several one that fits rather than not, and a reservation rather than not.
    fn mine<'a>(
        &self,
        history: &History,
        snapshot: &'a Snapshot,
        owners: &Owners,
    ) -> Option<(LeaseKey, &'a Entry)> {
        snapshot
            .keys()
            .filter(|(key, entry)| self.is_mine(history, key, entry, owners))
            .min_by_key(|(key, entry)| {
                (
                    !fits(&self.pools, key),
                    !is_as_written(history, key, entry),
                    !entry.is_reservation(),
                    *key.subnets() != history.previous,
                    owners.of(&key.to_string()).is_none(),
                )
            })
    }

    /// An entry without an owner is known by its address, as flanneld does it. One that nobody can read,
    /// in the place of what the node had before, counts as its own: that is what the command for a
    /// reservation in flannel's documentation leaves behind, as it stores the key along with the value.
    fn is_mine(&self, history: &History, key: &LeaseKey, entry: &Entry, owners: &Owners) -> bool {
        if is_as_written(history, key, entry) {
            return true;
        }
        if history.lost == Some(*key) {
            return false;
        }
        let before = *key.subnets() == history.previous;
        let Ok(lease) = &entry.lease else {
            return before;
        };
        let same_address = lease.attributes.is_same_node(&self.own);
        match owners.of(&key.to_string()) {
            Some(owner) => owner.is_same_node(&self.owner, same_address, before),
            None => same_address,
        }
    }
}

fn is_as_written(history: &History, key: &LeaseKey, entry: &Entry) -> bool {
    let written = history.written;
    written.is_some_and(|it| it.key == *key && it.mod_revision == entry.mod_revision)
}

/// A lease to be replaced. An operator's reservation that does not fit stays; it just can't be used.
fn outdated(mine: Option<(LeaseKey, &Entry)>) -> Option<(LeaseKey, i64)> {
    mine.filter(|(_, entry)| !entry.is_reservation())
        .map(|(key, entry)| (key, entry.mod_revision))
}

#[cfg(test)]
mod tests;
