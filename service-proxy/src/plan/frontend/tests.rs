//! What an address leads to, by Service and family.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::model::{Endpoint, ObjectName, SlicePort};

const HERE: Here<'_> = Here {
    node: "n1",
    zone: None,
    addresses: &[],
};

fn endpoint(address: &str, node: Option<&str>) -> Endpoint {
    Endpoint {
        address: address.parse().unwrap(),
        ready: true,
        serving: true,
        terminating: false,
        node: node.map(Into::into),
        hints: None,
    }
}

fn slice(family: Family, endpoints: Vec<Endpoint>) -> EndpointSlice {
    EndpointSlice {
        triggered: None,
        name: ObjectName::new("shop", format!("web-{family}")),
        service: ObjectName::new("shop", "web"),
        family,
        ports: vec![SlicePort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 8080,
        }],
        endpoints,
    }
}

#[test]
fn a_family_sees_its_own_addresses_and_endpoints() {
    let port = |name: &str, protocol, port| ServicePort {
        name: name.into(),
        protocol,
        port,
        node_port: None,
    };
    let service = Service {
        name: ObjectName::new("shop", "web"),
        cluster_ips: vec!["10.96.0.1".parse().unwrap(), "fd00:96::1".parse().unwrap()],
        ports: vec![
            port("http", Protocol::Tcp, 80),
            port("dns", Protocol::Udp, 80),
            port("again", Protocol::Tcp, 80),
        ],
        ..Service::default()
    };
    let slices = [
        slice(
            Family::V4,
            vec![
                endpoint("10.0.0.1", Some("n1")),
                endpoint("10.0.0.2", Some("n2")),
                endpoint("10.0.0.3", None),
            ],
        ),
        slice(Family::V6, vec![endpoint("fd00::1", Some("n1"))]),
    ];
    for (family, address, expected) in [
        (
            Family::V4,
            "10.96.0.1",
            &[("10.0.0.1", true), ("10.0.0.2", false), ("10.0.0.3", true)][..],
        ),
        (Family::V6, "fd00:96::1", &[("fd00::1", true)]),
    ] {
        let found = frontends(&service, slices.iter(), family, HERE);
        let found: Vec<_> = found
            .iter()
            .map(|(frontend, balance)| {
                assert_eq!(
                    (frontend.address, frontend.port),
                    (Address::Own(address.parse().unwrap()), 80)
                );
                (
                    frontend.protocol,
                    balance.name.to_string(),
                    balance.backends.clone(),
                )
            })
            .collect();
        let backends = expected.iter().map(|(address, here)| Backend {
            address: address.parse().unwrap(),
            port: 8080,
            here: *here,
        });
        assert_eq!(
            found,
            [
                (Protocol::Tcp, "shop/web:http".into(), backends.collect()),
                (Protocol::Udp, "shop/web:dns".into(), vec![]),
            ]
        );
    }
}

/// A Service with every kind of address, and policies for internal and external traffic.
fn with_all_addresses((internal, external): (TrafficPolicy, TrafficPolicy)) -> Service {
    Service {
        cluster_ips: vec!["10.96.0.1".parse().unwrap()],
        ports: vec![ServicePort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: Some(30080),
        }],
        external_ips: vec!["192.0.2.9".parse().unwrap(), "fd00::9".parse().unwrap()],
        load_balancer_ips: vec!["203.0.113.9".parse().unwrap()],
        source_ranges: vec!["10.0.0.0/8".parse().unwrap()],
        internal,
        external,
        ..Service::default()
    }
}

/// What a frontend leads to: the last byte of endpoints, those of the node behind a bar.
fn words(balance: &Balance) -> String {
    let hosts = |backends: &[Backend]| -> String {
        let last = |backend: &Backend| format!("{} ", &backend.address.to_string()[7..]);
        backends.iter().map(last).collect()
    };
    let Balance {
        entrance,
        otherwise,
        ..
    } = balance;
    let (all, local) = (hosts(&balance.backends), hosts(&balance.local));
    format!("{entrance:?} {all}| {local}{otherwise:?}")
}

#[test]
fn traffic_policies_by_address() {
    use TrafficPolicy::{Cluster, Local};
    let (here, there) = (("10.0.0.1", Some("n1")), ("10.0.0.2", Some("n2")));
    let inside = ["Internal 1 2 | Drop", "Internal 1 | Drop"];
    for (policies, listed, cluster_ip, others) in [
        (
            (Cluster, Cluster),
            &[here, there][..],
            inside[0],
            "External 1 2 | Drop",
        ),
        (
            (Local, Cluster),
            &[here, there],
            inside[1],
            "External 1 2 | Drop",
        ),
        (
            (Cluster, Local),
            &[here, there],
            inside[0],
            "ExternalLocal 1 2 | 1 Drop",
        ),
        (
            (Local, Local),
            &[there],
            "Internal | Drop",
            "ExternalLocal 2 | Drop",
        ),
        (
            (Local, Local),
            &[],
            "Internal | Refuse",
            "ExternalLocal | Refuse",
        ),
    ] {
        let endpoints = listed
            .iter()
            .map(|(address, node)| endpoint(address, *node));
        let slices = [slice(Family::V4, endpoints.collect())];
        let service = with_all_addresses(policies);
        let found: Vec<_> = frontends(&service, slices.iter(), Family::V4, HERE)
            .iter()
            .map(|(frontend, balance)| {
                let ranges = balance.sources.is_some();
                (frontend.to_string(), words(balance), ranges)
            })
            .collect();
        let row = |address: &str, text: &str, ranges| (address.to_owned(), text.to_owned(), ranges);
        let expected = [
            row("10.96.0.1 TCP port 80", cluster_ip, false),
            row("192.0.2.9 TCP port 80", others, false),
            row("203.0.113.9 TCP port 80", others, true),
            row("NodePort TCP 30080", others, false),
        ];
        assert_eq!(found, expected, "{policies:?}");
    }
}
