//! Whose a lease is, beyond the public address that flannel knows nodes by: an own entry beside it.

use std::collections::BTreeMap;

use kernel::Mac;
use serde::{Deserialize, Serialize};

use super::Snapshot;

/// Which program on which machine wrote a lease. Stands as JSON below `<prefix>/tweed/owners/`, under the
/// name of the lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The installed system: a hash of its identity and name. Cloned machines may have the same.
    pub machine: String,
    /// The Ethernet address of the interface for traffic between nodes, if it has one.
    pub mac: Option<Mac>,
    /// The node's name, for people.
    pub name: String,
    /// One run of the program, as a number that no other has.
    pub run: String,
}

/// The owners of leases, by the names of those.
///
/// An owner counts only as long as the lease stands as it was written along with it: flanneld and
/// operators write leases and leave the owner as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owners(BTreeMap<String, Owner>);

// === impl Owner ===

impl Owner {
    /// Whether a lease of that owner is this one's. `address` says whether both have the same public
    /// address, `before` whether this node remembers to have had that subnet.
    ///
    /// Addresses change, machines are cloned, interfaces get other Ethernet addresses, so no single fact
    /// is enough; of cloned machines behind one public address all but the Ethernet address is the same.
    pub fn is_same_node(&self, other: &Self, address: bool, before: bool) -> bool {
        let machine = self.machine == other.machine;
        match (self.mac, other.mac) {
            (Some(own), Some(theirs)) if own == theirs => machine || address,
            (None, None) => machine && address,
            _ => machine && address && before,
        }
    }

    /// The bytes that stand in etcd.
    pub fn to_json(&self) -> String {
        // An object of texts: there is nothing in it that JSON can't say.
        serde_json::to_string(self).unwrap_or_default()
    }
}

// === impl Owners ===

impl Owners {
    /// Those that count, out of all as `(name, owner, revision)` that stand beside a snapshot.
    pub fn new(all: impl IntoIterator<Item = (String, Owner, i64)>, snapshot: &Snapshot) -> Self {
        let counts = |name: &str, revision| {
            let entry = snapshot.entries.get(name);
            entry.is_some_and(|entry| entry.mod_revision == revision)
        };
        Self(
            all.into_iter()
                .filter(|(name, _, revision)| counts(name, *revision))
                .map(|(name, owner, _)| (name, owner))
                .collect(),
        )
    }

    /// Who is known to have written a lease.
    pub fn of(&self, name: &str) -> Option<&Owner> {
        self.0.get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Entry;

    fn owner(machine: &str, mac: Option<u8>) -> Owner {
        Owner {
            machine: machine.into(),
            mac: mac.map(|mac| Mac([2, 0, 0, 0, 0, mac])),
            name: "node".into(),
            run: "1".into(),
        }
    }

    #[test]
    fn nodes_are_told_apart_by_more_than_one_fact() {
        let own = owner("a", Some(1));
        let tun = owner("a", None);
        for (what, own, other, address, before, same) in [
            ("a restart", &own, owner("a", Some(1)), true, true, true),
            ("a reboot", &own, owner("a", Some(1)), true, false, true),
            (
                "another address",
                &own,
                owner("a", Some(1)),
                false,
                false,
                true,
            ),
            (
                "installed anew",
                &own,
                owner("b", Some(1)),
                true,
                false,
                true,
            ),
            (
                "another interface",
                &own,
                owner("a", Some(2)),
                true,
                true,
                true,
            ),
            ("a clone", &own, owner("a", Some(2)), false, false, false),
            (
                "a clone behind NAT",
                &own,
                owner("a", Some(2)),
                true,
                false,
                false,
            ),
            (
                "a clone with subnet.env",
                &own,
                owner("a", Some(2)),
                false,
                true,
                false,
            ),
            ("a successor", &own, owner("b", Some(2)), true, false, false),
            (
                "another node",
                &own,
                owner("b", Some(2)),
                false,
                false,
                false,
            ),
            ("no Ethernet", &tun, owner("a", None), true, false, true),
            (
                "no Ethernet, readdressed",
                &tun,
                owner("a", None),
                false,
                true,
                false,
            ),
            ("Ethernet now", &own, owner("a", None), true, false, false),
        ] {
            assert_eq!(own.is_same_node(&other, address, before), same, "{what}");
        }
    }

    #[test]
    fn an_owner_counts_while_its_lease_is_unchanged() {
        let entry =
            |revision| Entry::parse("10.5.1.0-24", br#"{"PublicIP":"1.2.3.4"}"#, revision, 9);
        for (revision, counts) in [(7, true), (8, false), (6, false)] {
            let snapshot = Snapshot {
                revision: 9,
                entries: [("10.5.1.0-24".to_owned(), entry(revision))].into(),
                ..Snapshot::default()
            };
            let all = ["10.5.1.0-24", "10.5.2.0-24"].map(|name| (name.into(), owner("a", None), 7));
            let owners = Owners::new(all, &snapshot);
            assert_eq!(owners.of("10.5.1.0-24").is_some(), counts, "{revision}");
            assert_eq!(owners.of("10.5.2.0-24"), None);
        }
    }

    #[test]
    fn json_round_trips() {
        let text = r#"{"machine":"a","mac":"02:00:00:00:00:01","name":"node","run":"1"}"#;
        assert_eq!(owner("a", Some(1)).to_json(), text);
        assert_eq!(
            serde_json::from_str::<Owner>(text).unwrap(),
            owner("a", Some(1))
        );
    }
}
