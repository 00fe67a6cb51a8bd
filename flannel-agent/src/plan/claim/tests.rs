//! Leases that stand and what is claimed then.

use std::{collections::BTreeSet, net::Ipv4Addr};

use kernel::{Family, Mac};
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
