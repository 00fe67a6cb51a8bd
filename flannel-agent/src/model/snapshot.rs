//! All leases as they stand in etcd, and the one that this node holds.

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;
use kernel::Family;

use super::{InvalidLease, Lease, LeaseKey};

/// Everything below `<prefix>/subnets/` at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The store's revision.
    pub revision: i64,
    /// The entries by name: the key below `<prefix>/subnets/`.
    pub entries: BTreeMap<String, Entry>,
    /// Entries that are not there any more, but whose nodes may be about to write them again.
    pub lingering: BTreeMap<String, Entry>,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it says.
    pub lease: Result<Lease, InvalidLease>,
    /// The revision that it was last written in.
    pub mod_revision: i64,
    /// The etcd lease that it ends with; 0 for a reservation, which does not end.
    pub etcd_lease: i64,
}

/// The lease that this node holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The subnets.
    pub key: LeaseKey,
    /// The revision in which it was written, as far as known here.
    pub mod_revision: i64,
    /// Whether it is a reservation, which needs no renewal.
    pub reservation: bool,
}

// === impl Snapshot ===

impl Snapshot {
    /// The valid leases in the order of their names, then the lingering ones.
    pub fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.entries
            .values()
            .chain(self.lingering.values())
            .filter_map(|entry| entry.lease.as_ref().ok())
    }

    /// The names of the valid leases, by their subnets of a family.
    pub fn names(&self, family: Family) -> BTreeMap<IpNetwork, String> {
        let name = |(name, entry): (&String, &Entry)| {
            let subnet = entry.lease.as_ref().ok()?.key.subnet(family)?;
            Some((subnet, name.clone()))
        };
        self.entries.iter().filter_map(name).collect()
    }

    /// Every entry whose key is that of a lease, also if its value is none: its subnets are taken.
    pub fn keys(&self) -> impl Iterator<Item = (LeaseKey, &Entry)> {
        self.entries
            .iter()
            .filter_map(|(name, entry)| Some((name.parse().ok()?, entry)))
    }

    /// The names and faults of the invalid entries.
    pub fn invalid(&self) -> impl Iterator<Item = (&str, &InvalidLease)> {
        self.entries
            .iter()
            .filter_map(|(name, entry)| Some((name.as_str(), entry.lease.as_ref().err()?)))
    }

    /// Keeps the entries of an earlier snapshot that this one does not have. Answers whether there are any.
    pub fn keep_lingering(&mut self, earlier: Self) -> bool {
        self.lingering = earlier.lingering;
        self.lingering.extend(earlier.entries);
        self.lingering
            .retain(|name, _| !self.entries.contains_key(name));
        !self.lingering.is_empty()
    }

    /// Whether a held lease stands here as it was written.
    pub fn has(&self, held: &Held) -> bool {
        self.entries
            .get(&held.key.to_string())
            .is_some_and(|entry| entry.mod_revision == held.mod_revision)
    }
}

// === impl Entry ===

impl Entry {
    /// Parses an entry; `name` is its key below `<prefix>/subnets/`.
    pub fn parse(name: &str, value: &[u8], mod_revision: i64, etcd_lease: i64) -> Self {
        Self {
            lease: Lease::parse(name, value),
            mod_revision,
            etcd_lease,
        }
    }

    /// Whether an operator has put it there for good (spec 1.5, reservations).
    pub const fn is_reservation(&self) -> bool {
        self.etcd_lease == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(names: &[&str]) -> Snapshot {
        let entry = |name: &&str| {
            let entry = Entry::parse(name, br#"{"PublicIP":"1.2.3.4"}"#, 7, 9);
            ((*name).to_owned(), entry)
        };
        Snapshot {
            entries: names.iter().map(entry).collect(),
            ..Snapshot::default()
        }
    }

    #[test]
    fn what_is_gone_lingers_until_it_is_back() {
        let names = |it: &Snapshot| {
            it.leases()
                .map(|lease| lease.key.to_string())
                .collect::<Vec<_>>()
        };
        let mut now = snapshot(&["10.5.2.0-24"]);
        assert!(now.keep_lingering(snapshot(&["10.5.1.0-24", "10.5.2.0-24"])));
        assert_eq!(names(&now), ["10.5.2.0-24", "10.5.1.0-24"]);
        assert_eq!(now.keys().count(), 1);
        let mut later = snapshot(&["10.5.2.0-24", "10.5.3.0-24"]);
        assert!(later.keep_lingering(now.clone()));
        assert_eq!(names(&later).len(), 3);
        let mut back = snapshot(&["10.5.1.0-24", "10.5.2.0-24"]);
        assert!(!back.keep_lingering(now));
    }
}
