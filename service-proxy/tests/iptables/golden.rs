//! All rules of small clusters, as text.

use std::{collections::BTreeSet, path::Path};

use kernel::Family;
use service_proxy::{
    model::{Catalogue, Here, ObjectName},
    plan::{
        iptables::{Dispatch, Observed, Plan, ServicePort, Settings, difference},
        nftables::{NodePortAddresses, NodeRules, Pods},
    },
    source::manifests::{Format, parse},
};

const HERE: Here<'_> = Here {
    node: "node1",
    zone: None,
    addresses: &[],
};

/// The text for `iptables-restore`, where nothing stands so far.
fn restore_text(settings: Settings, manifest: &str) -> String {
    let parsed = parse(manifest, Format::Yaml);
    assert_eq!(parsed.problems, []);
    let mut catalogue = Catalogue::default();
    let changes = parsed.objects.into_values();
    let services: BTreeSet<ObjectName> =
        changes.flat_map(|change| catalogue.apply(change)).collect();
    let family = settings.family;
    let mut plan = Plan::new(settings);
    let ports = services.into_iter().map(|name| {
        let service = catalogue.service(&name).unwrap();
        let ports = ServicePort::all(service, catalogue.slices_of(&name), family, HERE);
        (name, ports)
    });
    plan.update(ports.collect());
    difference(&plan.ruleset(), &Observed::default()).to_string()
}

fn assert_golden(settings: Settings, manifest: &str, file: &str, golden: &str) {
    let text = restore_text(settings, manifest);
    if text != golden {
        let got = Path::new(env!("CARGO_TARGET_TMPDIR")).join(file);
        std::fs::write(&got, &text).unwrap();
        panic!(
            "tests/iptables/{file} differs; what was planned is in {}:\n{text}",
            got.display()
        );
    }
}

fn settings(family: Family, dispatch: Dispatch, pods: Option<Pods>) -> Settings {
    Settings {
        family,
        node: NodeRules {
            pods,
            node_ports: NodePortAddresses::All,
            ..NodeRules::default()
        },
        dispatch,
        localhost_node_ports: true,
        drop_invalid: true,
        accounting: dispatch == Dispatch::Flat,
        beside_ipvs: false,
    }
}

/// kube-proxy's own golden test.
#[test]
fn the_classic_layout_is_kube_proxys() {
    let pods = Pods::Network("10.0.0.0/8".parse().unwrap());
    assert_golden(
        settings(Family::V4, Dispatch::Flat, Some(pods)),
        include_str!("kube-proxy.yaml"),
        "kube-proxy.rules",
        include_str!("kube-proxy.rules"),
    );
}

#[test]
fn the_tree_of_a_small_cluster() {
    let pods = Pods::InterfacePrefix("veth".parse().unwrap());
    assert_golden(
        settings(Family::V4, Dispatch::Tree, Some(pods)),
        include_str!("../golden/cluster.yaml"),
        "tree.rules",
        include_str!("tree.rules"),
    );
}

#[test]
fn ipv6_without_pods() {
    assert_golden(
        settings(Family::V6, Dispatch::Tree, None),
        include_str!("../golden/cluster.yaml"),
        "ip6.rules",
        include_str!("ip6.rules"),
    );
}

/// The same cluster as kube-proxy's golden test, beside virtual servers.
#[test]
fn beside_virtual_servers() {
    let pods = Pods::Network("10.0.0.0/8".parse().unwrap());
    let mut settings = settings(Family::V4, Dispatch::Tree, Some(pods));
    settings.beside_ipvs = true;
    let served = vec!["192.0.2.1/32".parse().unwrap()];
    settings.node.node_ports = NodePortAddresses::In(served);
    assert_golden(
        settings,
        include_str!("kube-proxy.yaml"),
        "beside-ipvs.rules",
        include_str!("beside-ipvs.rules"),
    );
}
