//! Getting and following leases, with a real etcd.

use std::{collections::BTreeSet, net::Ipv4Addr, time::Duration};

use etcd_client::KeyValue;
use flannel_agent::{
    agent::Keeper,
    model::{
        Attributes, BackendData, ByFamily, Claim, Guard, Held, NetConf, Owner, Snapshot, Vtep,
    },
    plan::Claimant,
    source::etcd::{Access, Outcome, Registry, follow},
};
use kernel::{Family, Mac};
use tokio::{sync::watch, task::JoinSet};

use crate::lab::{Etcd, PREFIX, TestNamespace, name};

const SMALL: &str = r#"{"Network":"10.5.0.0/24","SubnetLen":28,"Backend":{"Type":"vxlan"}}"#;
const SMALL_DUAL: &str = r#"{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/120","IPv6SubnetLen":124,"Backend":{"Type":"vxlan"}}"#;
const FOUR: &str = r#"{"Network":"10.5.0.0/22","SubnetLen":24,"Backend":{"Type":"vxlan"}}"#;

fn attributes(node: u8) -> Attributes {
    let vtep = Vtep {
        vni: 1.try_into().unwrap(),
        mac: Mac([2, 0, 0, 0, 0, node]),
    };
    Attributes {
        public: [(Family::V4, Ipv4Addr::new(192, 168, 64, node).into())]
            .into_iter()
            .collect(),
        backend: BackendData::Vxlan([(Family::V4, vtep)].into_iter().collect()),
    }
}

fn owner(node: u8) -> Owner {
    Owner {
        machine: format!("machine {node}"),
        mac: Some(Mac([2, 0, 0, 0, 0, node])),
        name: format!("node {node}"),
        run: format!("run {node}"),
    }
}

async fn registry() -> Registry {
    // Nothing listens at the first of them, as with flannel's defaults.
    let endpoints = [
        "http://127.0.0.1:4001".to_owned(),
        "http://127.0.0.1:2379".to_owned(),
    ];
    Registry::connect(&endpoints, &Access::default(), PREFIX)
        .await
        .unwrap()
}

async fn keeper(conf: &str, node: u8) -> Keeper {
    let conf = NetConf::parse(conf.as_bytes()).unwrap();
    Keeper {
        registry: registry().await,
        claimant: Claimant {
            pools: conf.pools,
            node: node.to_string(),
            own: attributes(node),
            owner: owner(node),
        },
        conf: tokio::sync::watch::Sender::new(conf).subscribe(),
        renew_after: Duration::from_secs(82_800),
    }
}

async fn acquire(conf: &str, node: u8) -> Held {
    keeper(conf, node)
        .await
        .acquire(&ByFamily::default(), None)
        .await
}

fn granted_ttl(etcd: &Etcd, kv: &KeyValue) -> i64 {
    let lease = kv.lease();
    etcd.with(|mut client| async move { client.lease_time_to_live(lease, None).await })
        .granted_ttl()
}

/// Twelve nodes at once in a network of fifteen subnets.
fn race(test: &str, conf: &str) -> (TestNamespace, Etcd) {
    let host = TestNamespace::new(test, "etcd");
    let etcd = Etcd::start(&host.namespace);
    let held = host.block_on(async || {
        let mut nodes = JoinSet::new();
        for node in 1..=12 {
            let keeper = keeper(conf, node).await;
            nodes.spawn(async move { keeper.acquire(&ByFamily::default(), None).await });
        }
        nodes.join_all().await
    });
    let leases = etcd.leases();
    assert_eq!(leases.len(), 12);
    for held in held {
        let kv = leases
            .iter()
            .find(|kv| name(kv) == held.key.to_string())
            .unwrap();
        assert_eq!(kv.mod_revision(), held.mod_revision);
        assert_eq!(granted_ttl(&etcd, kv), 86_400);
    }
    (host, etcd)
}

#[test]
fn nodes_that_race_get_different_subnets() {
    let (_host, etcd) = race("race", SMALL);
    let values: BTreeSet<_> = etcd.leases().iter().map(|kv| kv.value().to_vec()).collect();
    assert_eq!(values.len(), 12);
}

#[test]
fn nodes_that_race_get_different_subnets_of_both_families() {
    let (_host, etcd) = race("race6", SMALL_DUAL);
    for part in [0, 1] {
        let subnets: BTreeSet<_> = etcd
            .leases()
            .iter()
            .map(|kv| name(kv).split('&').nth(part).unwrap().to_owned())
            .collect();
        assert_eq!(subnets.len(), 12);
    }
}

#[test]
fn a_lost_race_leaves_no_etcd_lease_behind() {
    let (_host, etcd) = race("granted", SMALL);
    let granted = etcd.with(|mut client| async move { client.leases().await });
    assert_eq!(granted.leases().len(), 12);
}

#[test]
fn the_value_is_flannels_byte_for_byte() {
    let host = TestNamespace::new("bytes", "etcd");
    let etcd = Etcd::start(&host.namespace);
    let held = host.block_on(async || acquire(SMALL, 7).await);
    let leases = etcd.leases();
    assert_eq!(name(&leases[0]), held.key.to_string());
    assert_eq!(
        leases[0].value_str().unwrap(),
        r#"{"PublicIP":"192.168.64.7","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:07"}}"#
    );
}

#[test]
fn a_renewal_writes_the_lease_anew_and_keeps_the_subnet() {
    let host = TestNamespace::new("renewal", "etcd");
    let etcd = Etcd::start(&host.namespace);
    let first = host.block_on(async || acquire(SMALL, 7).await);
    let before = etcd.leases();
    let second = host.block_on(async || acquire(SMALL, 7).await);
    let after = etcd.leases();
    assert_eq!((first.key, after.len()), (second.key, 1));
    assert_ne!(before[0].lease(), after[0].lease());
    assert_eq!(granted_ttl(&etcd, &after[0]), 86_400);
}

#[test]
fn a_reservation_is_used_and_never_gets_an_end() {
    let host = TestNamespace::new("reservation", "etcd");
    let etcd = Etcd::start(&host.namespace);
    etcd.put("subnets/10.5.0.32-28", r#"{"PublicIP":"192.168.64.7"}"#);
    for _ in 0..2 {
        let held = host.block_on(async || acquire(SMALL, 7).await);
        assert_eq!(held.key.to_string(), "10.5.0.32-28");
        let leases = etcd.leases();
        assert_eq!((leases.len(), leases[0].lease()), (1, 0));
        assert_eq!(leases[0].value(), attributes(7).to_json().as_bytes());
        // The second time there is nothing to write.
        assert_eq!(leases[0].version(), 2);
    }
}

#[test]
fn a_reservation_of_another_node_is_left_alone() {
    let host = TestNamespace::new("reserved", "etcd");
    let etcd = Etcd::start(&host.namespace);
    for subnet in 1..15 {
        etcd.put(
            &format!("subnets/10.5.0.{}-28", subnet * 16),
            r#"{"PublicIP":"192.168.64.9"}"#,
        );
    }
    let held = host.block_on(async || acquire(SMALL, 7).await);
    assert_eq!(held.key.to_string(), "10.5.0.240-28");
}

#[test]
fn a_claim_that_was_overtaken_writes_nothing() {
    let host = TestNamespace::new("overtaken", "etcd");
    let etcd = Etcd::start(&host.namespace);
    etcd.put_leased("subnets/10.5.0.16-28", &attributes(1).to_json());
    etcd.put_leased(
        "subnets/10.5.0.32-28&fc00::10-124",
        &attributes(2).to_json(),
    );
    let before = etcd.leases();
    let free = || Guard::Free { outdated: None };
    let stale = Guard::Unchanged {
        mod_revision: 1,
        reservation: false,
    };
    let outdated = Guard::Free {
        outdated: Some(("10.5.0.16-28".parse().unwrap(), 1)),
    };
    for (name, guard) in [
        ("10.5.0.16-28", free()),
        ("10.5.0.16-28", stale),
        ("10.5.0.32-28", free()),
        ("10.5.0.48-28&fc00::10-124", free()),
        ("10.5.0.48-28", outdated),
    ] {
        let claim = Claim {
            key: name.parse().unwrap(),
            guard,
        };
        let outcome = host.block_on(async || {
            let registry = registry().await;
            registry.write(&claim, &attributes(7), &owner(7), 1).await
        });
        assert_eq!(outcome.unwrap(), Outcome::Raced, "{claim:?}");
    }
    let written = |leases: &[KeyValue]| {
        leases
            .iter()
            .map(KeyValue::mod_revision)
            .collect::<Vec<_>>()
    };
    assert_eq!(written(&etcd.leases()), written(&before));
}

#[test]
fn a_full_network_is_waited_for() {
    let host = TestNamespace::new("full", "etcd");
    let etcd = Etcd::start(&host.namespace);
    for node in 1..4 {
        etcd.put_leased(
            &format!("subnets/10.5.{node}.0-24"),
            &attributes(node).to_json(),
        );
    }
    let held = host.block_on(async || {
        let keeper = keeper(FOUR, 9).await;
        let none = ByFamily::default();
        let acquiring = keeper.acquire(&none, None);
        tokio::pin!(acquiring);
        let waited = tokio::time::timeout(Duration::from_millis(300), &mut acquiring).await;
        assert!(waited.is_err(), "{waited:?}");
        etcd.delete("subnets/10.5.2.0-24");
        acquiring.await
    });
    assert_eq!(held.key.to_string(), "10.5.2.0-24");
}

#[test]
fn going_dual_stack_moves_the_lease_in_one_step() {
    let host = TestNamespace::new("dual", "etcd");
    let etcd = Etcd::start(&host.namespace);
    etcd.put_leased("subnets/10.5.34.0-24", &attributes(7).to_json());
    host.block_on(async || acquire(SMALL_DUAL, 7).await);
    let leases = etcd.leases();
    assert_eq!(leases.len(), 1);
    assert!(
        name(&leases[0]).starts_with("10.5.34.0-24&fc00::"),
        "{}",
        name(&leases[0])
    );
}

#[test]
fn the_owner_stands_where_flanneld_does_not_look() {
    let host = TestNamespace::new("owner", "etcd");
    let etcd = Etcd::start(&host.namespace);
    let held = host.block_on(async || acquire(SMALL, 7).await);
    let lease = etcd.leases().remove(0);
    let owners = etcd.below("tweed/owners/");
    assert_eq!(owners.len(), 1);
    let key = format!("{PREFIX}/tweed/owners/{}", held.key);
    assert_eq!(owners[0].key_str().unwrap(), key);
    assert_eq!(owners[0].lease(), lease.lease());
    assert_eq!(owners[0].mod_revision(), lease.mod_revision());
    let read: Owner = serde_json::from_slice(owners[0].value()).unwrap();
    assert_eq!(read, owner(7));
    // flanneld watches this prefix, without a slash.
    assert_eq!(etcd.below("subnets").len(), 1);
}

#[test]
fn a_node_gets_its_lease_back_under_another_address() {
    let host = TestNamespace::new("moved", "etcd");
    let etcd = Etcd::start(&host.namespace);
    let first = host.block_on(async || acquire(SMALL, 7).await);
    let second = host.block_on(async || {
        let mut keeper = keeper(SMALL, 8).await;
        keeper.claimant.owner = owner(7);
        keeper.acquire(&ByFamily::default(), None).await
    });
    let leases = etcd.leases();
    assert_eq!((first.key, leases.len()), (second.key, 1));
    assert_eq!(leases[0].value(), attributes(8).to_json().as_bytes());
}

#[test]
fn nodes_with_one_public_address_leave_each_other_alone() {
    let host = TestNamespace::new("namesakes", "etcd");
    let etcd = Etcd::start(&host.namespace);
    let acquire = |by: u8| {
        host.block_on(async || {
            let mut keeper = keeper(SMALL, 7).await;
            keeper.claimant.owner = owner(by);
            keeper.acquire(&ByFamily::default(), None).await
        })
    };
    let (first, second) = (acquire(1), acquire(2));
    assert_ne!(first.key, second.key);
    assert_eq!((acquire(1).key, acquire(2).key), (first.key, second.key));
    assert_eq!(etcd.leases().len(), 2);
}

#[test]
fn leases_are_followed_over_restarts_and_compactions() {
    let host = TestNamespace::new("follow", "etcd");
    let mut etcd = Etcd::start(&host.namespace);
    etcd.put_leased("subnets/10.5.1.0-24", &attributes(1).to_json());
    let (sender, mut snapshots) = watch::channel(None);
    let following = std::thread::scope(|scope| {
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let host = &host;
        scope.spawn(move || {
            host.block_on(async || {
                let registry = registry().await;
                tokio::select! {
                    never = follow(&registry, &sender) => match never {},
                    _ = stopped => {}
                }
            });
        });
        let names = |snapshot: &Snapshot| {
            snapshot
                .entries
                .keys()
                .cloned()
                .collect::<Vec<_>>()
                .join(" ")
        };
        let mut wait_for = |expected: &str| {
            crate::lab::runtime().block_on(async {
                let agrees =
                    |it: &Option<Snapshot>| it.as_ref().is_some_and(|it| names(it) == expected);
                let waiting = snapshots.wait_for(agrees);
                tokio::time::timeout(Duration::from_secs(60), waiting)
                    .await
                    .is_ok_and(|it| it.is_ok())
            })
        };
        let mut steps = vec![wait_for("10.5.1.0-24")];
        etcd.put_leased("subnets/10.5.2.0-24", &attributes(2).to_json());
        etcd.put_leased("subnets-old/10.5.9.0-24", &attributes(9).to_json());
        steps.push(wait_for("10.5.1.0-24 10.5.2.0-24"));
        etcd.stop();
        etcd.run();
        etcd.delete("subnets/10.5.1.0-24");
        steps.push(wait_for("10.5.2.0-24"));
        etcd.put_leased("subnets/10.5.3.0-24", &attributes(3).to_json());
        let revision = etcd
            .leases()
            .iter()
            .map(KeyValue::mod_revision)
            .max()
            .unwrap();
        etcd.with(|mut client| async move { client.compact(revision, None).await });
        etcd.delete("subnets/10.5.2.0-24");
        steps.push(wait_for("10.5.3.0-24"));
        stop.send(()).unwrap();
        steps
    });
    assert_eq!(following, [true; 4]);
}
