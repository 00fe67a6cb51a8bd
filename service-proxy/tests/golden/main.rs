//! All that should stand for a small cluster, as text.

#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use kernel::{Family, nft};
use service_proxy::{
    model::{Catalogue, Here, ObjectName},
    plan::{
        Balance, Frontend, frontends, ipvs,
        nftables::{NodeRules, Plan, Pods, Surroundings},
    },
    source::manifests::{Format, parse},
};

const HERE: Here<'_> = Here {
    node: "node1",
    zone: None,
    addresses: &[],
};

const MANIFEST: &str = include_str!("cluster.yaml");

/// What the Services of the cluster are.
fn services(family: Family) -> BTreeMap<ObjectName, BTreeMap<Frontend, Balance>> {
    let parsed = parse(MANIFEST, Format::Yaml);
    assert_eq!(parsed.problems, []);
    let mut catalogue = Catalogue::default();
    let changes = parsed.objects.into_values();
    let services: BTreeSet<ObjectName> =
        changes.flat_map(|change| catalogue.apply(change)).collect();
    let all = services.into_iter().map(|name| {
        let service = catalogue.service(&name).unwrap();
        let frontends = frontends(service, catalogue.slices_of(&name), family, HERE);
        (name, frontends)
    });
    all.collect()
}

fn rules(local: Option<&str>) -> NodeRules {
    NodeRules {
        pods: local.map(|text| Pods::Network(text.parse().unwrap())),
        masquerade_all: false,
        ..NodeRules::default()
    }
}

fn assert_golden(text: &str, file: &str, golden: &str) {
    if text != golden {
        let got = Path::new(env!("CARGO_TARGET_TMPDIR")).join(file);
        std::fs::write(&got, text).unwrap();
        panic!(
            "tests/golden/{file} differs; what was planned is in {}:\n{text}",
            got.display()
        );
    }
}

fn assert_table(family: Family, local: Option<&str>, file: &str, golden: &str) {
    let mut plan = Plan::new(family, rules(local));
    plan.update(services(family));
    let transactions = nft::diff(None, &plan.table());
    let text: String = transactions.iter().map(ToString::to_string).collect();
    assert_golden(&text, file, golden);
}

#[test]
fn ipv4_with_a_cluster_cidr() {
    assert_table(
        Family::V4,
        Some("10.244.0.0/16"),
        "ip.nft",
        include_str!("ip.nft"),
    );
}

#[test]
fn ipv6_without_a_cluster_cidr() {
    assert_table(Family::V6, None, "ip6.nft", include_str!("ip6.nft"));
}

#[test]
fn ipvs_in_its_order() {
    let settings = ipvs::Settings {
        scheduler: "rr".into(),
        excluded: Vec::new(),
    };
    let mut plan = ipvs::Plan::new(Family::V4, rules(Some("10.244.0.0/16")), settings);
    let node = ["127.0.0.1", "192.0.2.1"].map(|it| it.parse().unwrap());
    plan.settle(&Surroundings::default(), &node.into());
    let services = services(Family::V4).into_iter();
    plan.load(services.map(|(name, frontends)| (name, frontends, ())));
    let step = plan.compare(ipvs::Observed::default(), true);
    assert_eq!((step.unbind, step.last), (vec![], vec![]));
    let rules = step.first.iter().map(ToString::to_string);
    let servers = step.servers.iter().map(|change| format!("{change}\n"));
    let addresses = step.bind.iter();
    let addresses = addresses.map(|it| format!("ip address add {it} dev kube-ipvs0\n"));
    let text: String = rules.chain(servers).chain(addresses).collect();
    assert_golden(&text, "ipvs.txt", include_str!("ipvs.txt"));
}
