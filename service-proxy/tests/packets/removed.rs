//! Open TCP connections to endpoints that are gone: left alone, or reset where that is asked for.

use std::io::ErrorKind;

use kernel::Family;

use crate::{
    eventually,
    manifest::Listed,
    network::{CLUSTER_CIDR, Network, Place},
    proxy::Proxy,
    web,
};

const RESET: &[&str] = &[
    "--cluster-cidr",
    CLUSTER_CIDR,
    "--reset-tcp-to-removed-endpoints",
];

fn connections_to_removed_endpoints_are_reset(family: Family) {
    let network = Network::new();
    let mut service = web(family);
    let [gone, stays] = [Place::Pod1, Place::Pod2].map(|pod| Listed::ready(pod, family));
    service.endpoints = vec![gone];
    network.write(&service);
    let _proxy = Proxy::start_with(&network, RESET);
    let mut lost = network.connect(Place::Client, service.socket());
    lost.assert_echoes();
    let mut direct = network.connect(
        Place::Client,
        (Place::Pod1.address(family), crate::server::PORT).into(),
    );

    // While it still serves on its way out, nothing happens to it.
    service.endpoints = vec![Listed::terminating(Place::Pod1, family), stays.clone()];
    network.write(&service);
    let other = || {
        let mut connection = network.connect(Place::Client, service.socket());
        (connection.exchange().unwrap().name == "pod2").then_some(connection)
    };
    eventually("the other endpoint", || other().is_some());
    let mut kept = other().unwrap();
    lost.assert_echoes();

    service.endpoints = vec![stays];
    network.write(&service);
    eventually("the connection to be reset", || {
        lost.exchange()
            .is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
    });
    kept.assert_echoes();
    direct.assert_echoes();
}

#[test]
fn connections_to_removed_endpoints_are_reset_v4() {
    connections_to_removed_endpoints_are_reset(Family::V4);
}

#[test]
fn connections_to_removed_endpoints_are_reset_v6() {
    connections_to_removed_endpoints_are_reset(Family::V6);
}

#[test]
fn connections_are_left_alone_unless_asked_for() {
    let family = Family::V4;
    let network = Network::new();
    let mut service = web(family);
    service.endpoints = vec![Listed::ready(Place::Pod1, family)];
    network.write(&service);
    let proxy = Proxy::start(&network);
    let mut open = network.connect(Place::Client, service.socket());
    service.endpoints = vec![Listed::ready(Place::Pod2, family)];
    network.write(&service);
    eventually("the other endpoint", || {
        let mut connection = network.connect(Place::Client, service.socket());
        connection.exchange().unwrap().name == "pod2"
    });
    for _ in 0..5 {
        open.assert_echoes();
    }
    drop(proxy);
}
