//! What became of a lease that does not stand any more as it was written.

use crate::model::{BackendData, Held, Owners, Snapshot};

use super::Claimant;

/// Why a node's lease is not as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It is gone: deleted, or forgotten by a store that was restored.
    Gone,
    /// Another node has it.
    Taken,
    /// It says something else, or it is an older state of the store; it is the node's own still.
    Changed,
    /// This very program wrote it, and did not hear the answer.
    Unheard,
}

// === impl Claimant ===

impl Claimant {
    /// What became of a lease. To be asked only if the snapshot does not have it as it was written.
    pub fn loss(&self, held: &Held, snapshot: &Snapshot, owners: &Owners) -> Loss {
        let name = held.key.to_string();
        let Some(entry) = snapshot.entries.get(&name) else {
            return Loss::Gone;
        };
        let Ok(lease) = &entry.lease else {
            return Loss::Changed;
        };
        let same_address = lease.attributes.is_same_node(&self.own);
        // What a restored store has from before was written before.
        let is_newer = entry.mod_revision > held.mod_revision;
        match owners.of(&name) {
            Some(owner) if owner.run == self.owner.run => Loss::Unheard,
            Some(owner) if is_newer || !owner.is_same_node(&self.owner, same_address, true) => {
                Loss::Taken
            }
            Some(_) => Loss::Changed,
            None if !same_address => Loss::Taken,
            // A reservation says nothing of a backend; flanneld on another machine does.
            None => match &lease.attributes.backend {
                backend @ BackendData::Vxlan(_) if *backend != self.own.backend && is_newer => {
                    Loss::Taken
                }
                _ => Loss::Changed,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use kernel::{Family, Mac};

    use super::*;
    use crate::model::{Attributes, ByFamily, Entry, Owner, Vtep};

    const NAME: &str = "10.5.34.0-24";

    fn attributes(node: u8, mac: Option<u8>) -> Attributes {
        let vtep = |mac| Vtep {
            vni: 1.try_into().unwrap(),
            mac: Mac([2, 0, 0, 0, 0, mac]),
        };
        Attributes {
            public: [(Family::V4, Ipv4Addr::new(192, 168, 64, node).into())]
                .into_iter()
                .collect(),
            backend: mac.map_or_else(
                || BackendData::Other(String::new()),
                |mac| BackendData::Vxlan([(Family::V4, vtep(mac))].into_iter().collect()),
            ),
        }
    }

    fn owner(machine: &str, run: &str) -> Owner {
        Owner {
            machine: machine.into(),
            mac: None,
            name: machine.into(),
            run: run.into(),
        }
    }

    /// What is said of a lease that was written in revision 7.
    fn loss(value: &str, revision: i64, owner_of_it: Option<Owner>) -> Loss {
        let claimant = Claimant {
            pools: ByFamily::default(),
            node: "a".into(),
            own: attributes(1, Some(1)),
            owner: owner("a", "now"),
        };
        let entry = Entry::parse(NAME, value.as_bytes(), revision, 9);
        let snapshot = Snapshot {
            revision,
            entries: [(NAME.to_owned(), entry)].into(),
            ..Snapshot::default()
        };
        let owners = owner_of_it.map(|it| (NAME.to_owned(), it, revision));
        let held = Held {
            key: NAME.parse().unwrap(),
            mod_revision: 7,
            reservation: false,
        };
        claimant.loss(&held, &snapshot, &Owners::new(owners, &snapshot))
    }

    #[test]
    fn what_became_of_a_lease() {
        let own = attributes(1, Some(1)).to_json();
        let reserved = attributes(1, None).to_json();
        let flanneld = attributes(1, Some(2)).to_json();
        let other = attributes(2, Some(2)).to_json();
        for (what, value, revision, by, expected) in [
            ("no answer", &own, 9, Some(("a", "now")), Loss::Unheard),
            ("made a reservation", &own, 9, None, Loss::Changed),
            ("reserved", &reserved, 9, None, Loss::Changed),
            ("made unreadable", &"junk".into(), 9, None, Loss::Changed),
            ("by a flanneld", &other, 9, None, Loss::Taken),
            ("by its namesake", &flanneld, 9, None, Loss::Taken),
            (
                "by another node",
                &other,
                9,
                Some(("b", "old")),
                Loss::Taken,
            ),
            ("by its clone", &own, 9, Some(("a", "old")), Loss::Taken),
            ("restored", &own, 5, Some(("a", "old")), Loss::Changed),
            ("restored to flanneld's", &flanneld, 5, None, Loss::Changed),
            (
                "restored to another's",
                &other,
                5,
                Some(("b", "old")),
                Loss::Taken,
            ),
        ] {
            let by = by.map(|(machine, run)| owner(machine, run));
            assert_eq!(loss(value, revision, by), expected, "{what}");
        }
    }
}
