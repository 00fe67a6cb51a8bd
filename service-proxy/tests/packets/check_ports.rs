//! `healthCheckNodePort`: load balancers are told how many endpoints there are on the node (service-proxy F29).

use std::{io::ErrorKind, net::SocketAddr};

use kernel::Family;

use crate::{
    eventually, health, http,
    manifest::{self, Listed, Service},
    network::{CLUSTER_CIDR, Network, Place},
    proxy::Proxy,
};

const PORT: u16 = 32_000;

fn spec(policy: &str) -> String {
    format!(
        "\x20 type: LoadBalancer\n\x20 externalTrafficPolicy: {policy}\n\x20 healthCheckNodePort: {PORT}\n"
    )
}

/// A load balancer's Service by endpoints that are on the node.
fn balanced(family: Family, endpoints: impl Into<Vec<Listed>>) -> Service {
    Service {
        spec: spec("Local"),
        load_balancer: Some(manifest::external_ip(family, 8)),
        ..Service::new("front", manifest::cluster_ip(family, 20), endpoints)
    }
}

fn at(family: Family) -> SocketAddr {
    SocketAddr::new(Place::Outside.gateway(family), PORT)
}

/// What somebody outside is answered.
fn ask(network: &Network, family: Family) -> std::io::Result<http::Response> {
    http::get(network, Place::Outside, at(family), "/any/path")
}

fn is_refused(network: &Network, family: Family) -> bool {
    let refused = |error: std::io::Error| error.kind() == ErrorKind::ConnectionRefused;
    ask(network, family).is_err_and(refused)
}

/// Waits until so many endpoints are told of, and looks at the whole answer.
fn assert_told(network: &Network, family: Family, endpoints: usize) {
    eventually("the number of endpoints to be told", || {
        ask(network, family).is_ok_and(|told| told.json()["localEndpoints"] == endpoints)
    });
    let told = ask(network, family).unwrap();
    assert_eq!(told.status, if endpoints > 0 { 200 } else { 503 });
    let weight = endpoints.to_string();
    for (name, value) in [
        ("content-type", "application/json"),
        ("x-content-type-options", "nosniff"),
        ("x-load-balancing-endpoint-weight", &weight),
    ] {
        assert_eq!(told.header(name), Some(value), "{told:?}");
    }
    let expected = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": \"default\",\n\t\t\"name\": \"front\"\n\t}},\n\
         \t\"localEndpoints\": {endpoints},\n\t\"serviceProxyHealthy\": true\n}}"
    );
    assert_eq!(told.body, expected);
}

fn endpoints_on_the_node_are_told(family: Family) {
    let network = Network::new();
    let [here, other] = [Place::Pod1, Place::Pod2].map(|pod| Listed::ready(pod, family));
    // Each listens at two ports of the Service and counts once.
    network.write(&balanced(family, [here.clone(), other.clone().elsewhere()]));
    let _proxy = Proxy::start(&network);
    assert_told(&network, family, 1);
    network.write(&balanced(family, [here, other]));
    assert_told(&network, family, 2);
    // It still answers, but is to get nothing new.
    network.write(&balanced(
        family,
        [Listed::terminating(Place::Pod1, family)],
    ));
    assert_told(&network, family, 0);
    let other_family = Family::ALL.into_iter().find(|it| *it != family).unwrap();
    assert!(is_refused(&network, other_family));
}

#[test]
fn endpoints_on_the_node_are_told_v4() {
    endpoints_on_the_node_are_told(Family::V4);
}

#[test]
fn endpoints_on_the_node_are_told_v6() {
    endpoints_on_the_node_are_told(Family::V6);
}

#[test]
fn a_port_that_is_not_wanted_refuses() {
    let family = Family::V4;
    let network = Network::new();
    let service = balanced(family, [Listed::ready(Place::Pod1, family)]);
    network.write(&service);
    let _proxy = Proxy::start(&network);
    let plain = spec("Local").replace("LoadBalancer", "NodePort");
    for spec in [spec("Cluster"), plain, String::new()] {
        assert_told(&network, family, 1);
        network.write(&Service {
            spec: spec.clone(),
            ..service.clone()
        });
        eventually(&format!("the port to be closed by {spec:?}"), || {
            is_refused(&network, family)
        });
        network.write(&service);
    }
    assert_told(&network, family, 1);
    network.remove("front");
    eventually("the port to be closed", || is_refused(&network, family));
}

/// One Service goes and another takes its port, in one step.
#[test]
fn a_port_changes_hands() {
    let family = Family::V4;
    let network = Network::new();
    let first = balanced(family, [Listed::ready(Place::Pod1, family)]);
    let second = Service {
        name: "next".to_owned(),
        cluster_ip: manifest::cluster_ip(family, 21),
        load_balancer: None,
        ..first.clone()
    };
    network.write(&first);
    let proxy = Proxy::start(&network);
    assert_told(&network, family, 1);
    let cluster = first.manifest().replace("Policy: Local", "Policy: Cluster");
    network.write_text("front", &format!("{cluster}---\n{}", second.manifest()));
    eventually("the other Service to be told of", || {
        ask(&network, family).is_ok_and(|told| told.json()["service"]["name"] == "next")
    });
    assert!(!proxy.log().contains("can't serve"), "{}", proxy.log());
}

#[test]
fn checks_are_served_where_node_ports_are() {
    let family = Family::V4;
    let network = Network::new();
    network.write(&balanced(family, [Listed::ready(Place::Pod1, family)]));
    let options = [
        "--cluster-cidr",
        CLUSTER_CIDR,
        "--nodeport-addresses",
        "192.0.2.0/24",
    ];
    let _proxy = Proxy::start_with(&network, &options);
    assert_told(&network, family, 1);
    let elsewhere = SocketAddr::new(Place::Client.gateway(family), PORT);
    assert!(http::get(&network, Place::Client, elsewhere, "/").is_err());
}

#[test]
fn a_port_that_is_taken_is_told_of_and_served_when_it_is_free() {
    let family = Family::V4;
    let network = Network::new();
    let bind = || std::net::TcpListener::bind(("0.0.0.0", PORT));
    let taken = network.namespace(Place::Node).run(bind).unwrap().unwrap();
    network.write(&balanced(family, [Listed::ready(Place::Pod1, family)]));
    let proxy = Proxy::start(&network);
    eventually("the port to be told of", || {
        proxy.log().contains("can't serve its healthCheckNodePort")
    });
    drop(taken);
    assert_told(&network, family, 1);
    assert_eq!(proxy.log().matches("can't serve").count(), 1);
}

#[test]
fn a_proxy_that_does_not_follow_is_told_of() {
    let family = Family::V4;
    let network = Network::new();
    network.write(&balanced(family, [Listed::ready(Place::Pod1, family)]));
    let _proxy = Proxy::start(&network);
    assert_told(&network, family, 1);
    let _owner = health::Owner::of(&network, "ip tweed-proxy");
    eventually("the fault to last for two sync periods", || {
        ask(&network, family).is_ok_and(|told| told.status == 503)
    });
    let told = ask(&network, family).unwrap().json();
    assert_eq!(told["localEndpoints"], 1);
    assert_eq!(told["serviceProxyHealthy"], false);
}
