//! `list`, `diff` and `explain` against what packets do.

use std::{
    collections::BTreeSet,
    io::ErrorKind,
    net::{IpAddr, SocketAddr},
    process::Output,
};

use kernel::Family;
use serde_json::Value;

use crate::{
    eventually,
    manifest::{self, Listed, Service},
    network::{CLUSTER_CIDR, Network, PODS, Place},
    proxy::Proxy,
    server::Transport,
};

const NODE_PORT: u16 = 30_081;
/// The chance that one of two endpoints gets none of them is below 1e-11.
const MANY: usize = 40;

/// A Service with every kind of address: pod1 is on the node, pod2 elsewhere, pod3 on its way out.
fn service(family: Family, spec: &str) -> Service {
    let external = manifest::external_ip(family, 9);
    let leaving = Listed::terminating(Place::Pod3, family);
    Service {
        spec: format!("\x20 externalIPs: [\"{external}\"]\n{spec}"),
        load_balancer: Some(manifest::external_ip(family, 8)),
        node_port: Some(NODE_PORT),
        ..Service::new(
            "front",
            manifest::cluster_ip(family, 20),
            [
                Listed::ready(Place::Pod1, family),
                Listed::ready(Place::Pod2, family).elsewhere(),
                leaving.elsewhere(),
            ],
        )
    }
}

fn inspect(network: &Network, arguments: &[&str]) -> Output {
    let options = ["--cluster-cidr", CLUSTER_CIDR];
    Proxy::inspect(network, &[arguments, &options].concat())
}

fn text(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.is_empty(), "{errors}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The address that a place sends from to a Service.
fn source(from: Place, family: Family) -> IpAddr {
    match from {
        Place::Node => Place::Outside.gateway(family),
        leaf => leaf.address(family),
    }
}

/// The endpoint that a client keeps is told, and is the one that answers.
fn a_session_is_singled_out(family: Family) {
    let network = Network::new();
    let service = service(family, "\x20 sessionAffinity: ClientIP\n");
    network.write(&service);
    let _proxy = Proxy::start(&network);
    let to = service.socket();
    assert!(explain(&network, Place::Client, to)["session"].is_null());
    let answer = network.ask(Place::Client, Transport::Tcp, to).unwrap();
    let kept = PODS.into_iter().find(|pod| pod.name() == answer.name);
    let kept = SocketAddr::new(kept.unwrap().address(family), crate::server::PORT);
    assert_eq!(
        explain(&network, Place::Client, to)["session"],
        kept.to_string()
    );
    let source = source(Place::Client, family).to_string();
    let words = text(&inspect(&network, &["explain", &source, &to.to_string()]));
    let line = format!("session     the sender keeps {kept}");
    assert!(words.contains(&line), "{words}");
    assert!(explain(&network, Place::Outside, to)["session"].is_null());
}

#[test]
fn a_session_is_singled_out_v4() {
    a_session_is_singled_out(Family::V4);
}

#[test]
fn a_session_is_singled_out_v6() {
    a_session_is_singled_out(Family::V6);
}

fn explain(network: &Network, from: Place, to: SocketAddr) -> Value {
    let source = source(from, Family::of(&to.ip())).to_string();
    let output = inspect(network, &["explain", "--json", &source, &to.to_string()]);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_str(&text(&output)).unwrap()
}

/// Who answers, and whether they see the node: as it is explained, and as it is.
fn assert_explained(network: &Network, from: Place, to: SocketAddr) {
    let family = Family::of(&to.ip());
    let explained = explain(network, from, to);
    let what = format!("{from:?} to {to}: {explained}");
    let objects = explained["kernel"].as_array().unwrap();
    assert!(
        objects.iter().all(|object| object["present"] == true),
        "{what}"
    );
    let outcome = &explained["outcome"];
    match outcome["is"].as_str().unwrap() {
        "forwarded" => {
            let answers = network.ask_many(from, Transport::Tcp, to, MANY);
            let endpoints = explained["endpoints"].as_array().unwrap();
            let explained: BTreeSet<_> = endpoints
                .iter()
                .filter(|endpoint| endpoint["out"].is_null())
                .map(|endpoint| endpoint["address"].as_str().unwrap().parse().unwrap())
                .collect();
            let pod = |name: &str| PODS.into_iter().find(|pod| pod.name() == name).unwrap();
            let answered: BTreeSet<_> = answers
                .iter()
                .map(|answer| {
                    SocketAddr::new(pod(&answer.name).address(family), crate::server::PORT)
                })
                .collect();
            assert_eq!(answered, explained, "{what}");
            let masqueraded = !outcome["masqueraded"].is_null();
            for answer in answers {
                let seen = if masqueraded || (from == Place::Pod1 && answer.name == "pod1") {
                    pod(&answer.name).gateway(family)
                } else {
                    source(from, family)
                };
                assert_eq!(answer.source, seen, "{what}");
            }
        }
        "refused" => {
            let error = network.ask(from, Transport::Tcp, to).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{what}");
        }
        "dropped" => {
            let error = network.ask(from, Transport::Tcp, to).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{what}");
        }
        other => panic!("{other}: {what}"),
    }
}

fn explanations_are_what_packets_do(family: Family) {
    let network = Network::new();
    let options = ["--cluster-cidr", CLUSTER_CIDR];
    let service_at = |spec: &str| {
        network.write(&service(family, spec));
    };
    service_at("");
    let proxy = Proxy::start_with(&network, &options);
    let external = SocketAddr::new(manifest::external_ip(family, 9), 80);
    let balancer = SocketAddr::new(manifest::external_ip(family, 8), 80);
    let node_port = SocketAddr::new(Place::Outside.gateway(family), NODE_PORT);
    let cluster_ip = service(family, "").socket();
    let wrong = SocketAddr::new(cluster_ip.ip(), 81);
    let elsewhere = match family {
        Family::V4 => "198.51.100.0/24",
        Family::V6 => "fd00:51::/64",
    };
    for spec in [
        String::new(),
        "\x20 internalTrafficPolicy: Local\n".to_owned(),
        "\x20 externalTrafficPolicy: Local\n".to_owned(),
        format!("\x20 loadBalancerSourceRanges: [\"{elsewhere}\"]\n"),
    ] {
        service_at(&spec);
        eventually("the kernel to follow", || {
            inspect(&network, &["diff"]).status.success()
        });
        for from in [Place::Client, Place::Outside, Place::Node, Place::Pod1] {
            for to in [cluster_ip, external, node_port] {
                assert_explained(&network, from, to);
            }
        }
        for to in [balancer, wrong] {
            assert_explained(&network, Place::Client, to);
        }
    }
    drop(proxy);
}

#[test]
fn explanations_are_what_packets_do_v4() {
    explanations_are_what_packets_do(Family::V4);
}

#[test]
fn explanations_are_what_packets_do_v6() {
    explanations_are_what_packets_do(Family::V6);
}

#[test]
fn an_explanation_can_be_read() {
    let family = Family::V4;
    let network = Network::new();
    network.write(&service(family, ""));
    let mut proxy = Proxy::start(&network);
    // What is missing must stay missing: a proxy that runs puts it back within milliseconds.
    proxy.terminate();
    network.nft("delete element ip tweed-proxy endpoints { 10.96.0.20 . tcp . 80 . 1 }");
    let output = inspect(&network, &["explain", "192.0.2.2", "10.96.0.20:80"]);
    let text = text(&output);
    for line in [
        "packet      192.0.2.2 -> 10.96.0.20:80/TCP",
        "from        neither a pod nor this node",
        "for         Service default/front:web, by its cluster IP",
        "policy      internalTrafficPolicy Cluster",
        "endpoint    10.244.1.2:8080 on node node",
        "out         10.244.3.2:8080 on node other: on its way out, and others are ready",
        "masqueraded yes: it goes to a cluster IP and is not from a pod",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}:\n{text}");
    }
    let missing: Vec<_> = text
        .lines()
        .filter(|line| line.contains("MISSING"))
        .collect();
    assert_eq!(missing.len(), 1, "{text}");
    assert!(
        missing[0].contains("element ip tweed-proxy endpoints"),
        "{text}"
    );
}

#[test]
fn a_difference_is_shown_and_left_as_it_is() {
    let network = Network::new();
    network.write(&service(Family::V4, ""));
    let mut proxy = Proxy::start(&network);
    proxy.terminate();
    let same = inspect(&network, &["diff"]);
    assert_eq!((same.status.code(), text(&same).as_str()), (Some(0), ""));
    network.nft("delete element ip tweed-proxy cluster-ips { 10.96.0.20 }");
    for _ in 0..2 {
        let differs = inspect(&network, &["diff"]);
        assert_eq!(differs.status.code(), Some(1));
        assert_eq!(
            text(&differs),
            "add element ip tweed-proxy cluster-ips { 10.96.0.20 }\n"
        );
    }
    let trouble = inspect(&network, &["diff", "--manifests", "/does/not/exist"]);
    assert_eq!(trouble.status.code(), Some(2));
}

#[test]
fn services_are_listed_with_their_sessions() {
    let family = Family::V4;
    let network = Network::new();
    let front = service(family, "\x20 type: LoadBalancer\n");
    network.write(&front);
    network.write(&Service::new("empty", manifest::cluster_ip(family, 21), []));
    let _proxy = Proxy::start(&network);
    let node_port = SocketAddr::new(Place::Outside.gateway(family), NODE_PORT);
    let _open = [
        network.connect(Place::Client, front.socket()),
        network.connect(Place::Outside, node_port),
    ];
    let table = text(&inspect(&network, &["list"]));
    let row = |name: &str| -> Vec<String> {
        let line = table.lines().find(|line| line.starts_with(name));
        let words = line.unwrap_or_else(|| panic!("{name}:\n{table}"));
        words.split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(
        row("default/front:web").join(" "),
        "default/front:web LoadBalancer 10.96.0.20,203.0.113.8,203.0.113.9 80/TCP 30081 2 of 3 2"
    );
    assert_eq!(
        row("default/empty:dns").join(" "),
        "default/empty:dns ClusterIP 10.96.0.21 80/UDP - 0 of 0 0"
    );
    let json: Value = serde_json::from_str(&text(&inspect(&network, &["list", "--json"]))).unwrap();
    let front = json
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["servicePort"] == "default/front:web");
    let front = front.unwrap();
    assert_eq!(
        front["endpoints"],
        serde_json::json!(["10.244.1.2:8080", "10.244.2.2:8080"])
    );
    assert_eq!(front["sessions"], 2);
}
