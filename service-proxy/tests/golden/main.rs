//! The whole table of a small cluster, as text.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, path::Path};

use kernel::{Family, nft};
use service_proxy::{
    model::{Catalogue, Here, ObjectName},
    plan::{
        frontends,
        nftables::{NodeRules, Plan, Pods},
    },
    source::manifests::{Format, parse},
};

const HERE: Here<'_> = Here {
    node: "node1",
    zone: None,
};

const MANIFEST: &str = include_str!("cluster.yaml");

fn assert_golden(family: Family, local: Option<&str>, file: &str, golden: &str) {
    let parsed = parse(MANIFEST, Format::Yaml);
    assert_eq!(parsed.problems, []);
    let mut catalogue = Catalogue::default();
    let changes = parsed.objects.into_values();
    let services: BTreeSet<ObjectName> =
        changes.flat_map(|change| catalogue.apply(change)).collect();
    let rules = NodeRules {
        pods: local.map(|text| Pods::Network(text.parse().unwrap())),
        masquerade_all: false,
        ..NodeRules::default()
    };
    let mut plan = Plan::new(family, rules);
    plan.update(
        services
            .into_iter()
            .map(|name| {
                let service = catalogue.service(&name).unwrap();
                let frontends = frontends(service, catalogue.slices_of(&name), family, HERE);
                (name, frontends)
            })
            .collect(),
    );
    let text: String = nft::diff(None, &plan.table())
        .iter()
        .map(ToString::to_string)
        .collect();
    if text != golden {
        let got = Path::new(env!("CARGO_TARGET_TMPDIR")).join(file);
        std::fs::write(&got, &text).unwrap();
        panic!(
            "tests/golden/{file} differs; what was planned is in {}:\n{text}",
            got.display()
        );
    }
}

#[test]
fn ipv4_with_a_cluster_cidr() {
    assert_golden(
        Family::V4,
        Some("10.244.0.0/16"),
        "ip.nft",
        include_str!("ip.nft"),
    );
}

#[test]
fn ipv6_without_a_cluster_cidr() {
    assert_golden(Family::V6, None, "ip6.nft", include_str!("ip6.nft"));
}
