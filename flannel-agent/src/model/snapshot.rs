//! All leases as they stand in etcd, and the one that this node holds.

use std::collections::{BTreeMap, VecDeque};

use ipnetwork::IpNetwork;
use kernel::Family;

use super::{InvalidLease, Lease, LeaseKey};

/// How many changed entries are remembered: more than come together, and little memory.
const REMEMBERED: usize = 4096;

/// Everything below `<prefix>/subnets/` at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The store's revision.
    pub revision: i64,
    /// The entries by name: the key below `<prefix>/subnets/`.
    pub entries: BTreeMap<String, Entry>,
    /// Entries that are not there any more, but whose nodes may be about to write them again.
    pub lingering: BTreeMap<String, Entry>,
    /// What changed lately.
    pub log: ChangeLog,
}

/// What changed lately in a [`Snapshot`], so that who has seen it before need not look at all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeLog {
    /// The latest last.
    touched: VecDeque<Touched>,
    /// How many there have been.
    changes: u64,
}

/// An entry that was put, or is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touched {
    /// Its name.
    pub name: String,
    /// The lease that it was before; the error if it was none.
    pub before: Option<Result<LeaseKey, InvalidLease>>,
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

    /// An entry of a name, also one that lingers.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name).or_else(|| self.lingering.get(name))
    }

    /// Takes over a written entry.
    pub fn put(&mut self, name: String, entry: Entry) {
        let lingering = self.lingering.remove(&name);
        let before = self.entries.insert(name.clone(), entry).or(lingering);
        self.touch(name, before);
    }

    /// Takes over that an entry is gone. Answers whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.entries.remove(name);
        let was_there = before.is_some();
        if was_there {
            self.touch(name.to_owned(), before);
        }
        was_there
    }

    /// Nothing lingers any more. Answers with the names of what did.
    pub fn end_lingering(&mut self) -> Vec<String> {
        let lingering = std::mem::take(&mut self.lingering);
        let names = lingering.keys().cloned().collect();
        for (name, entry) in lingering {
            self.touch(name, Some(entry));
        }
        names
    }

    /// How far its changes are, for [`Snapshot::touched_since`].
    pub const fn position(&self) -> u64 {
        self.log.changes
    }

    /// What changed since a position; `None` if that isn't known, and all may have.
    pub fn touched_since(&self, position: u64) -> Option<impl Iterator<Item = &Touched>> {
        let new = usize::try_from(self.log.changes.checked_sub(position)?).ok()?;
        let known = self.log.touched.len().checked_sub(new)?;
        Some(self.log.touched.range(known..))
    }

    /// Comes after an earlier snapshot, of which nothing is known but that all may have changed since.
    pub fn follow(&mut self, earlier: &Self) {
        self.log.changes = earlier.log.changes + 1;
        self.log.touched.clear();
    }

    fn touch(&mut self, name: String, before: Option<Entry>) {
        let key = |entry: Entry| entry.lease.map(|lease| lease.key);
        if self.log.touched.len() == REMEMBERED {
            self.log.touched.pop_front();
        }
        self.log.touched.push_back(Touched {
            name,
            before: before.map(key),
        });
        self.log.changes += 1;
    }

    /// Keeps the entries of an earlier snapshot that this one does not have. Answers whether there are any.
    pub fn keep_lingering(&mut self, earlier: Self) -> bool {
        self.follow(&earlier);
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

    #[test]
    fn what_was_touched_is_told_since_a_position() {
        let entry = |name: &str| Entry::parse(name, br#"{"PublicIP":"1.2.3.4"}"#, 7, 9);
        let names = |it: &Snapshot, since: u64| {
            let touched = it.touched_since(since)?;
            Some(
                touched
                    .map(|it| (it.name.clone(), it.before.clone()))
                    .collect::<Vec<_>>(),
            )
        };
        let mut now = snapshot(&["10.5.1.0-24"]);
        let begin = now.position();
        assert_eq!(names(&now, begin), Some(Vec::new()));
        now.put("10.5.2.0-24".into(), entry("10.5.2.0-24"));
        assert!(now.remove("10.5.1.0-24") && !now.remove("10.5.1.0-24"));
        let before = Ok("10.5.1.0-24".parse().unwrap());
        assert_eq!(
            names(&now, begin).unwrap(),
            [
                ("10.5.2.0-24".into(), None),
                ("10.5.1.0-24".into(), Some(before))
            ]
        );
        assert_eq!(names(&now, begin + 1).unwrap().len(), 1);
        let end = now.position();
        let mut later = snapshot(&[]);
        later.keep_lingering(now);
        assert_eq!(names(&later, end), None);
        let position = later.position();
        assert_eq!(later.end_lingering(), ["10.5.2.0-24"]);
        assert_eq!(names(&later, position).unwrap().len(), 1);
        for _ in 0..=REMEMBERED {
            later.put("10.5.2.0-24".into(), entry("10.5.2.0-24"));
        }
        assert_eq!(names(&later, position), None);
        assert_eq!(names(&later, later.position() + 1), None);
    }
}
