//! Clusters at random, with few addresses for many Services.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use ipnetwork::IpNetwork;
use kernel::Family;
use proptest::{collection::vec, option, prelude::*, sample::subsequence};
use service_proxy::model::{
    Change, Endpoint, EndpointSlice, Hints, ObjectName, Protocol, Service, ServicePort, SlicePort,
    TrafficPolicy,
};

/// A name in the one namespace.
pub fn name(text: impl AsRef<str>) -> ObjectName {
    ObjectName::new("default", text)
}

/// Few addresses for many Services, so that some have the same.
fn cluster_ips() -> impl Strategy<Value = Vec<IpAddr>> {
    let v4 = option::of((0..3_u8).prop_map(|n| Ipv4Addr::new(10, 96, 0, n).into()));
    let v6 =
        option::of((0..3_u16).prop_map(|n| Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, n).into()));
    (v4, v6).prop_map(|(v4, v6)| v4.into_iter().chain(v6).collect())
}

fn ports() -> impl Strategy<Value = Vec<(&'static str, Protocol, u16)>> {
    let all = vec![
        ("http", Protocol::Tcp, 80),
        ("dns", Protocol::Udp, 53),
        ("x", Protocol::Sctp, 80),
    ];
    subsequence(all, 0..=3)
}

fn policy() -> impl Strategy<Value = TrafficPolicy> {
    prop_oneof![Just(TrafficPolicy::Cluster), Just(TrafficPolicy::Local)]
}

/// Few times, so that some Services have the same.
fn affinity() -> impl Strategy<Value = Option<Duration>> {
    let times = prop_oneof![Just(60), Just(10_800)];
    option::of(times.prop_map(Duration::from_secs))
}

/// Few lists of networks, so that some Services have the same.
fn source_ranges() -> impl Strategy<Value = Vec<IpNetwork>> {
    let all = ["10.0.0.0/8", "192.0.2.0/24", "fd00::/8"].map(|range| range.parse().unwrap());
    subsequence(all.to_vec(), 0..=3)
}

fn service() -> impl Strategy<Value = Change> {
    let known = (
        cluster_ips(),
        ports(),
        [cluster_ips(), cluster_ips()],
        source_ranges(),
        [policy(), policy()],
        option::of(0..3_u16),
        affinity(),
    );
    (0..4_u8, option::weighted(0.8, known)).prop_map(|(number, known)| {
        let name = name(format!("s{number}"));
        let service = known.map(
            |(cluster_ips, ports, others, ranges, policies, node_ports, affinity)| Service {
                name: name.clone(),
                cluster_ips,
                external_ips: others[0].clone(),
                load_balancer_ips: others[1].clone(),
                source_ranges: ranges,
                internal: policies[0],
                external: policies[1],
                affinity,
                health_check_node_port: None,
                ports: ports
                    .into_iter()
                    .map(|(name, protocol, port)| ServicePort {
                        name: name.into(),
                        protocol,
                        port,
                        node_port: node_ports.map(|number| 30_000 + number + port),
                    })
                    .collect(),
                ..Service::default()
            },
        );
        Change::Service(name, service.map(Arc::new))
    })
}

fn endpoint(family: Family) -> impl Strategy<Value = Endpoint> {
    let nodes = option::of(prop_oneof![
        Just("node1".to_owned()),
        Just("node2".to_owned())
    ]);
    let hints = option::of(subsequence(
        vec!["node1".to_owned(), "node2".to_owned()],
        0..=2,
    ));
    (0..5_u8, any::<[bool; 3]>(), nodes, hints).prop_map(
        move |(host, [ready, serving, terminating], node, hints)| {
            let address = match family {
                Family::V4 => Ipv4Addr::new(10, 244, 0, host).into(),
                Family::V6 => Ipv6Addr::new(0xfd00, 0x244, 0, 0, 0, 0, 0, host.into()).into(),
            };
            Endpoint {
                address,
                ready,
                serving,
                terminating,
                node: node.map(Into::into),
                hints: hints.map(|nodes| {
                    Box::new(Hints {
                        nodes,
                        zones: Vec::new(),
                    })
                }),
            }
        },
    )
}

fn slice_of(family: Family) -> impl Strategy<Value = EndpointSlice> {
    let parts = (0..4_u8, ports(), vec(endpoint(family), 0..5));
    parts.prop_map(move |(service, ports, endpoints)| EndpointSlice {
        triggered: None,
        name: name(""),
        service: name(format!("s{service}")),
        family,
        ports: ports
            .into_iter()
            .map(|(name, protocol, port)| SlicePort {
                name: name.into(),
                protocol,
                port: port + 8000,
            })
            .collect(),
        endpoints,
    })
}

fn slice() -> impl Strategy<Value = Change> {
    let known = prop_oneof![slice_of(Family::V4), slice_of(Family::V6)];
    (0..6_u8, option::weighted(0.8, known)).prop_map(|(number, known)| {
        let name = name(format!("slice{number}"));
        let slice = known.map(|slice| EndpointSlice {
            triggered: None,
            name: name.clone(),
            ..slice
        });
        Change::EndpointSlice(name, slice.map(Arc::new))
    })
}

/// Some objects come, go or become others.
pub fn changes() -> impl Strategy<Value = Vec<Change>> {
    vec(prop_oneof![service(), slice()], 1..5)
}
