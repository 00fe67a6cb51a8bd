//! Which subnet a node takes, and on which condition.

use ipnetwork::IpNetwork;
use kernel::Family;

use super::hash::hash;
use crate::model::{
    Attributes, ByFamily, Claim, Entry, Guard, Held, LeaseKey, Owner, Owners, Pool, Snapshot,
};

/// No subnet is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all {size} {family} subnets of {network} are leased")]
pub struct Full {
    /// The family that has none.
    pub family: Family,
    /// The network.
    pub network: IpNetwork,
    /// How many subnets it has.
    pub size: u128,
}

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

/// Whether two leases have addresses in common.
fn overlap(one: &LeaseKey, other: &LeaseKey) -> bool {
    Family::ALL
        .into_iter()
        .filter_map(|family| one.subnet(family).zip(other.subnet(family)))
        .any(|(one, other)| one.contains(other.network()) || other.contains(one.network()))
}

/// Whether a lease is one that could be chosen now.
fn fits(pools: &ByFamily<Pool>, key: &LeaseKey) -> bool {
    Family::ALL
        .into_iter()
        .all(|family| match (pools.get(family), key.subnet(family)) {
            (Some(pool), Some(subnet)) => pool.holds(subnet),
            (None, None) => true,
            _ => false,
        })
}

/// The first of the wishes that is free, or else the first free subnet from the node's own place on.
fn choose(
    family: Family,
    pool: &Pool,
    node: &str,
    wishes: [Option<IpNetwork>; 2],
    others: &[LeaseKey],
) -> Result<IpNetwork, Full> {
    let taken = taken(family, pool, others);
    let is_free = |subnet: &IpNetwork| {
        pool.numbers(*subnet)
            .is_some_and(|(number, _)| first_free(number, number + 1, &taken).is_some())
    };
    let wish = wishes
        .into_iter()
        .flatten()
        .find(|subnet| pool.holds(*subnet) && is_free(subnet));
    let place = u128::from(hash(&["subnet", node, &family.to_string()])) % pool.size();
    wish.or_else(|| {
        first_free(place, pool.size(), &taken)
            .or_else(|| first_free(0, place, &taken))
            .and_then(|number| pool.subnet(number))
    })
    .ok_or(Full {
        family,
        network: pool.network(),
        size: pool.size(),
    })
}

/// The numbers that are taken, as ranges from first to last, in their order.
fn taken(family: Family, pool: &Pool, others: &[LeaseKey]) -> Vec<(u128, u128)> {
    let mut taken: Vec<_> = others
        .iter()
        .filter_map(|key| pool.numbers(key.subnet(family)?))
        .collect();
    taken.sort_unstable();
    taken
}

/// The first number from `start` to before `end` that is in none of the ranges.
fn first_free(start: u128, end: u128, taken: &[(u128, u128)]) -> Option<u128> {
    let mut candidate = start;
    for &(first, last) in taken {
        if first > candidate {
            break;
        }
        candidate = candidate.max(last + 1);
    }
    (candidate < end).then_some(candidate)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, net::Ipv4Addr};

    use kernel::Mac;
    use proptest::prelude::*;

    use super::*;
    use crate::model::{BackendData, NetConf};

    const V4: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;
    const DUAL: &str = r#"{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/48","Backend":{"Type":"vxlan"}}"#;

    fn node(address: u32) -> Attributes {
        Attributes {
            public: [(Family::V4, Ipv4Addr::from(address).into())]
                .into_iter()
                .collect(),
            backend: BackendData::Other(String::new()),
        }
    }

    /// Entries `(name, node, etcd lease)`; node 0 stands for a value that is no lease.
    fn snapshot(entries: &[(&str, u32, i64)]) -> Snapshot {
        let entry = |&(name, address, etcd_lease): &(&str, u32, i64)| {
            let value = if address == 0 {
                "junk".to_owned()
            } else {
                node(address).to_json()
            };
            (
                name.to_owned(),
                Entry::parse(name, value.as_bytes(), 7, etcd_lease),
            )
        };
        Snapshot {
            revision: 7,
            entries: entries.iter().map(entry).collect(),
            ..Snapshot::default()
        }
    }

    fn subnets(texts: &[&str]) -> ByFamily<IpNetwork> {
        let parsed = texts.iter().map(|text| text.parse().unwrap());
        parsed
            .map(|subnet| (Family::of_network(&subnet), subnet))
            .collect()
    }

    fn claim_of_1(conf: &str, previous: &[&str], entries: &[(&str, u32, i64)]) -> (String, Guard) {
        let claimant = claimant(conf, "node 1", 1);
        let claim = claim(&claimant, &had(previous), &snapshot(entries)).unwrap();
        (claim.key.to_string(), claim.guard)
    }

    fn claim(claimant: &Claimant, history: &History, snapshot: &Snapshot) -> Result<Claim, Full> {
        claimant.claim(history, snapshot, &Owners::default())
    }

    fn had(previous: &[&str]) -> History {
        History {
            previous: subnets(previous),
            ..History::default()
        }
    }

    fn owner(machine: &str, mac: u8, run: &str) -> Owner {
        Owner {
            machine: machine.into(),
            mac: Some(Mac([2, 0, 0, 0, 0, mac])),
            name: machine.into(),
            run: run.into(),
        }
    }

    fn claimant(conf: &str, name: &str, address: u32) -> Claimant {
        let pools = NetConf::parse(conf.as_bytes()).unwrap().pools;
        Claimant {
            pools,
            node: name.to_owned(),
            own: node(address),
            owner: owner(name, 1, "now"),
        }
    }

    fn free() -> Guard {
        Guard::Free { outdated: None }
    }

    fn unchanged(reservation: bool) -> Guard {
        Guard::Unchanged {
            mod_revision: 7,
            reservation,
        }
    }

    #[test]
    fn a_lease_stays_the_nodes_own_under_another_address() {
        let entries = snapshot(&[("10.5.34.0-24", 1, 99), ("10.5.9.0-24", 2, 98)]);
        let claimant = claimant(V4, "node 1", 3);
        let claim = |mod_revision| {
            let written = Some(Held {
                key: "10.5.34.0-24".parse().unwrap(),
                mod_revision,
                reservation: false,
            });
            let history = History {
                written,
                ..History::default()
            };
            claim(&claimant, &history, &entries).unwrap()
        };
        assert_eq!(claim(7).key.to_string(), "10.5.34.0-24");
        assert_eq!(claim(7).guard, unchanged(false));
        // Somebody else has written it since.
        assert_ne!(claim(6).key.to_string(), "10.5.34.0-24");
        assert_eq!(claim(6).guard, free());
    }

    /// The owner that stands beside a lease of [`snapshot`].
    fn owners(name: &str, owner: Owner, snapshot: &Snapshot) -> Owners {
        Owners::new([(name.to_owned(), owner, 7)], snapshot)
    }

    #[test]
    fn a_lease_is_known_by_its_owner_and_without_one_by_its_address() {
        let name = "10.5.34.0-24";
        let claimant = claimant(V4, "a", 1);
        let fresh = claim_of_1(V4, &[], &[]).0;
        for (what, address, by, previous, mine) in [
            ("flanneld's", 1, None, "10.5.7.0/24", true),
            ("another flanneld's", 2, None, "10.5.7.0/24", false),
            (
                "readdressed",
                2,
                Some(owner("a", 1, "old")),
                "10.5.7.0/24",
                true,
            ),
            (
                "a clone",
                1,
                Some(owner("a", 2, "old")),
                "10.5.7.0/24",
                false,
            ),
            (
                "own interface anew",
                1,
                Some(owner("a", 2, "old")),
                "10.5.34.0/24",
                true,
            ),
            (
                "a namesake",
                1,
                Some(owner("b", 2, "old")),
                "10.5.34.0/24",
                false,
            ),
        ] {
            let entries = snapshot(&[(name, address, 99)]);
            let owners = by.map_or_else(Owners::default, |by| owners(name, by, &entries));
            let claim = claimant
                .claim(&had(&[previous]), &entries, &owners)
                .unwrap();
            assert_eq!(claim.key.to_string() == name, mine, "{what}");
            assert_eq!(claim.guard == unchanged(false), mine, "{what}");
            let namesakes = claimant.namesakes(&entries, &owners).count();
            assert_eq!(
                namesakes,
                usize::from(!mine && address == 1 || what == "own interface anew"),
                "{what}"
            );
        }
        assert_ne!(fresh, name);
    }

    #[test]
    fn what_another_node_took_is_not_taken_back() {
        let entries = snapshot(&[("10.5.34.0-24", 1, 99)]);
        let history = History {
            lost: Some("10.5.34.0-24".parse().unwrap()),
            ..had(&["10.5.34.0/24"])
        };
        let claim = claim(&claimant(V4, "a", 1), &history, &entries).unwrap();
        assert_ne!(claim.key.to_string(), "10.5.34.0-24");
        assert_eq!(claim.guard, free());
    }

    #[test]
    fn what_vanished_is_taken_again_before_what_is_from_before() {
        let history = History {
            gone: Some("10.5.34.0-24".parse().unwrap()),
            ..had(&["10.5.34.0/24"])
        };
        let outdated = |name: &str| Guard::Free {
            outdated: Some((name.parse().unwrap(), 7)),
        };
        for (entries, expected, guard) in [
            (&[][..], "10.5.34.0-24", free()),
            (
                &[("10.5.9.0-24", 1, 99)],
                "10.5.34.0-24",
                outdated("10.5.9.0-24"),
            ),
            // An operator wants the node there.
            (&[("10.5.9.0-24", 1, 0)], "10.5.9.0-24", unchanged(true)),
            (
                &[("10.5.9.0-24", 1, 99), ("10.5.34.0-24", 2, 98)],
                "10.5.9.0-24",
                unchanged(false),
            ),
        ] {
            let claim = claim(&claimant(V4, "a", 1), &history, &snapshot(entries)).unwrap();
            assert_eq!(
                (claim.key.to_string().as_str(), claim.guard),
                (expected, guard)
            );
        }
    }

    #[test]
    fn a_node_is_not_moved_by_a_reservation_while_it_has_a_lease() {
        let entries = snapshot(&[("10.5.9.0-24", 1, 0), ("10.5.34.0-24", 1, 99)]);
        let written = Some(Held {
            key: "10.5.34.0-24".parse().unwrap(),
            mod_revision: 7,
            reservation: false,
        });
        let history = History {
            written,
            ..History::default()
        };
        let claim = claim(&claimant(V4, "a", 1), &history, &entries).unwrap();
        assert_eq!(claim.key.to_string(), "10.5.34.0-24");
    }

    #[test]
    fn own_lease_is_used_again() {
        let own = ("10.5.34.0-24", 1, 99);
        let claimed = claim_of_1(V4, &["10.5.7.0/24"], &[("10.5.9.0-24", 2, 98), own]);
        assert_eq!(claimed, (own.0.to_owned(), unchanged(false)));
    }

    #[test]
    fn own_reservation_comes_before_own_lease_and_has_no_end() {
        let claimed = claim_of_1(
            V4,
            &["10.5.9.0/24"],
            &[("10.5.34.0-24", 1, 0), ("10.5.9.0-24", 1, 99)],
        );
        assert_eq!(claimed, ("10.5.34.0-24".to_owned(), unchanged(true)));
    }

    #[test]
    fn previous_subnet_is_taken_if_free_and_fit() {
        let fresh = claim_of_1(V4, &[], &[]);
        for (previous, entries, expected) in [
            ("10.5.7.0/24", &[][..], "10.5.7.0-24"),
            ("10.5.7.0/24", &[("10.5.7.0-24", 2, 99)], fresh.0.as_str()),
            ("10.5.7.0/24", &[("10.5.6.0-23", 2, 99)], &fresh.0),
            ("10.5.7.0/24", &[("10.5.7.0-24", 2, 0)], &fresh.0),
            ("10.5.7.0/24", &[("10.5.6.0-23", 0, 99)], &fresh.0),
            ("10.5.7.0/24", &[("10.5.7.0-24&fc00::-64", 2, 99)], &fresh.0),
            ("10.5.7.0/25", &[], &fresh.0),
            ("10.5.0.0/24", &[], &fresh.0),
            ("10.9.7.0/24", &[], &fresh.0),
        ] {
            assert_eq!(
                claim_of_1(V4, &[previous], entries),
                (expected.to_owned(), free()),
                "{previous} {entries:?}"
            );
        }
    }

    #[test]
    fn what_nobody_can_read_in_place_of_the_own_lease_is_repaired() {
        let damaged = [("10.5.7.0-24", 0, 0)];
        let (name, guard) = claim_of_1(V4, &["10.5.7.0/24"], &damaged);
        assert_eq!((name.as_str(), guard), ("10.5.7.0-24", unchanged(true)));
        let (name, guard) = claim_of_1(V4, &["10.5.8.0/24"], &damaged);
        assert_eq!((name.as_str(), guard), ("10.5.8.0-24", free()));
    }

    #[test]
    fn a_lease_that_does_not_fit_is_replaced_in_one_step() {
        let outdated = |name: &str| Guard::Free {
            outdated: Some((name.parse().unwrap(), 7)),
        };
        let (name, guard) = claim_of_1(V4, &[], &[("10.9.34.0-24", 1, 99)]);
        assert_eq!(
            (name, guard),
            (claim_of_1(V4, &[], &[]).0, outdated("10.9.34.0-24"))
        );
        let (name, guard) = claim_of_1(V4, &[], &[("10.9.34.0-24", 1, 0)]);
        assert_eq!((name, guard), (claim_of_1(V4, &[], &[]).0, free()));
    }

    #[test]
    fn going_dual_stack_keeps_the_ipv4_subnet() {
        let (name, guard) = claim_of_1(
            DUAL,
            &[],
            &[("10.5.34.0-24", 1, 99), ("10.5.7.0-24", 2, 98)],
        );
        assert!(name.starts_with("10.5.34.0-24&fc00:0:0:"), "{name}");
        assert_eq!(
            guard,
            Guard::Free {
                outdated: Some(("10.5.34.0-24".parse().unwrap(), 7))
            }
        );
        let (back, _) = claim_of_1(V4, &[], &[(&name, 1, 99)]);
        assert_eq!(back, "10.5.34.0-24");
    }

    #[test]
    fn a_full_network_is_said_to_be_full() {
        let conf = r#"{"Network":"10.5.0.0/22","SubnetLen":24,"Backend":{"Type":"vxlan"}}"#;
        let claimant = claimant(conf, "node 1", 1);
        let leases = [
            ("10.5.1.0-24", 2, 9),
            ("10.5.2.0-24", 3, 9),
            ("10.5.3.0-24", 4, 9),
        ];
        let none = History::default();
        let full = claim(&claimant, &none, &snapshot(&leases)).unwrap_err();
        assert_eq!(
            full.to_string(),
            "all 3 IPv4 subnets of 10.5.0.0/22 are leased"
        );
        let claim = claim(&claimant, &none, &snapshot(&leases[..2])).unwrap();
        assert_eq!(claim.key.to_string(), "10.5.3.0-24");
    }

    #[test]
    fn first_choices_are_spread() {
        let chosen: BTreeSet<_> = (1..=40u32)
            .map(|n| {
                let claimant = claimant(V4, &format!("machine/192.168.64.{n}"), n);
                claim(&claimant, &History::default(), &Snapshot::default())
                    .unwrap()
                    .key
            })
            .collect();
        // 40 of 255 at random: 37 different ones are to be expected.
        assert!(chosen.len() >= 34, "{}", chosen.len());
    }

    proptest! {
        #[test]
        fn what_is_claimed_is_free(
            leases in prop::collection::btree_map((0..8u8, 22..29u8), 0..3u32, 0..6),
            seed: u64,
        ) {
            let conf = r#"{"Network":"10.5.0.0/21","SubnetLen":24,"Backend":{"Type":"vxlan"}}"#;
            let claimant = claimant(conf, &seed.to_string(), 9);
            let pool = claimant.pools.get(Family::V4).unwrap();
            let names: Vec<_> = leases
                .iter()
                .filter_map(|(&(octet, prefix), &node)| {
                    let name = format!("10.5.{octet}.0-{prefix}");
                    name.parse::<LeaseKey>().ok().map(|_| (name, node))
                })
                .collect();
            let entries: Vec<_> = names.iter().map(|(name, node)| (name.as_str(), *node, 9)).collect();
            let snapshot = snapshot(&entries);
            match claim(&claimant, &History::default(), &snapshot) {
                Ok(claim) => {
                    let subnet = claim.key.subnet(Family::V4).unwrap();
                    prop_assert!(pool.holds(subnet));
                    for (key, _) in snapshot.keys() {
                        let other = key.subnet(Family::V4).unwrap();
                        prop_assert!(!other.contains(subnet.network()) && !subnet.contains(other.network()));
                    }
                }
                Err(_) => {
                    let covered = (0..pool.size()).all(|number| {
                        let subnet = pool.subnet(number).unwrap();
                        snapshot.keys().any(|(key, _)| {
                            let other = key.subnet(Family::V4).unwrap();
                            other.contains(subnet.network()) || subnet.contains(other.network())
                        })
                    });
                    prop_assert!(covered);
                }
            }
        }
    }
}
