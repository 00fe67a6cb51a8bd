#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::{model::Change, plan::nftables::Pods, source::decode};

/// A node `n1` in zone `a` with the address 192.0.2.1; pods are in 10.244.0.0/16.
fn view(objects: &[Value], packet: (&str, &str)) -> Explanation {
    let mut catalogue = Catalogue::default();
    for object in objects {
        catalogue.apply(change(object));
    }
    let (destination, protocol) = packet.1.split_once('/').unwrap();
    let packet = Packet {
        source: packet.0.parse().unwrap(),
        destination: destination.parse().unwrap(),
        protocol: protocol.parse().unwrap(),
    };
    let on_node = |address: IpAddr| address == "192.0.2.1".parse::<IpAddr>().unwrap();
    let rules = NodeRules {
        pods: Some(Pods::Network("10.244.0.0/16".parse().unwrap())),
        ..NodeRules::default()
    };
    View {
        catalogue: &catalogue,
        here: Here {
            node: "n1",
            zone: Some("a"),
            addresses: &[],
        },
        rules: &rules,
        surroundings: &Surroundings {
            source_on_node: on_node(packet.source),
            source_interface: None,
            destination_on_node: on_node(packet.destination.ip()),
        },
        manners: Manners::default(),
    }
    .explain(&packet)
}

fn change(object: &Value) -> Change {
    if object["kind"] == "Service" {
        let service = decode::service(&serde_json::from_value(object.clone()).unwrap());
        let service = service.unwrap().unwrap();
        Change::Service(service.name.clone(), Some(Arc::new(service)))
    } else {
        let slice = decode::endpoint_slice(&serde_json::from_value(object.clone()).unwrap());
        let slice = slice.unwrap().unwrap();
        Change::EndpointSlice(slice.name.clone(), Some(Arc::new(slice)))
    }
}

fn service(policies: &str) -> Value {
    let (internal, external) = policies.split_once(' ').unwrap();
    json!({
        "kind": "Service",
        "metadata": {"namespace": "shop", "name": "web"},
        "spec": {
            "type": "LoadBalancer",
            "clusterIP": "10.96.0.10",
            "externalIPs": ["203.0.113.9"],
            "ports": [{"name": "http", "port": 80, "nodePort": 30080}],
            "loadBalancerSourceRanges": ["198.51.100.0/24"],
            "internalTrafficPolicy": internal,
            "externalTrafficPolicy": external,
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.8"}]}},
    })
}

/// Endpoints 10.244.0.1 and so on: `r` ready, `t` on its way out, `u` not ready; then the node's number, and a
/// zone that it is for.
fn slice(endpoints: &str) -> Value {
    let endpoint = |(index, text): (usize, &str)| {
        let mut endpoint = json!({
            "addresses": [format!("10.244.0.{}", index + 1)],
            "nodeName": format!("n{}", &text[1..2]),
            "conditions": {
                "ready": text.starts_with('r'),
                "serving": !text.starts_with('u'),
                "terminating": text.starts_with('t'),
            },
        });
        if let Some(zone) = text.get(2..).filter(|zone| !zone.is_empty()) {
            endpoint["hints"] = json!({"forZones": [{"name": zone}]});
        }
        endpoint
    };
    let endpoints: Vec<_> = endpoints
        .split_whitespace()
        .enumerate()
        .map(endpoint)
        .collect();
    json!({
        "kind": "EndpointSlice",
        "metadata": {"namespace": "shop", "name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": endpoints,
    })
}

const POD: &str = "10.244.9.9";
const NODE: &str = "192.0.2.1";
const OUTSIDE: &str = "198.51.100.7";
const CLUSTER_IP: &str = "10.96.0.10:80/TCP";
const EXTERNAL_IP: &str = "203.0.113.9:80/TCP";
const LOAD_BALANCER: &str = "203.0.113.8:80/TCP";
const NODE_PORT: &str = "192.0.2.1:30080/TCP";

/// Each endpoint in one word: `ok`, or why it is out.
fn fates_of(explanation: &Explanation) -> String {
    let word = |fate: &Fate| match &fate.out {
        None => "ok".to_owned(),
        Some(out) => serde_json::to_value(out).unwrap()["because"]
            .as_str()
            .unwrap()
            .to_owned(),
    };
    let words: Vec<_> = explanation.endpoints.iter().map(word).collect();
    words.join(" ")
}

#[test]
fn who_gets_it_and_who_does_not() {
    for (policies, endpoints, from, to, expected) in [
        (
            "Cluster Cluster",
            "r1 r2 u1 t2",
            POD,
            CLUSTER_IP,
            "ok ok notReady leaving",
        ),
        ("Cluster Cluster", "u1 t2", POD, CLUSTER_IP, "notReady ok"),
        ("Local Cluster", "r1 r2", POD, CLUSTER_IP, "ok notHere"),
        ("Local Cluster", "r1 r2", OUTSIDE, NODE_PORT, "ok ok"),
        (
            "Cluster Local",
            "r1 r2 t1",
            OUTSIDE,
            NODE_PORT,
            "ok notHere leaving",
        ),
        ("Cluster Local", "t1 r2", OUTSIDE, EXTERNAL_IP, "ok notHere"),
        ("Cluster Local", "r1 r2", POD, EXTERNAL_IP, "ok ok"),
        ("Cluster Local", "r1 r2", NODE, LOAD_BALANCER, "ok ok"),
        ("Cluster Cluster", "r1a r2b", POD, CLUSTER_IP, "ok hints"),
        // Hints are for the cluster, not for those on the node.
        ("Cluster Local", "r1b r2a", OUTSIDE, NODE_PORT, "ok notHere"),
    ] {
        let found = view(&[service(policies), slice(endpoints)], (from, to));
        let what = format!("{policies}: {endpoints}: {from} to {to}");
        assert_eq!(fates_of(&found), expected, "{what}: {found:?}");
    }
}

#[test]
fn what_becomes_of_it() {
    let forwarded = |masqueraded| Outcome::Forwarded { masqueraded };
    let dropped = |because| Outcome::Dropped { because };
    let refused = |because| Outcome::Refused { because };
    let (both, there) = ("r1 r2", "r2");
    for (policies, endpoints, from, to, expected) in [
        ("Cluster Cluster", both, POD, CLUSTER_IP, forwarded(None)),
        (
            "Cluster Cluster",
            both,
            OUTSIDE,
            CLUSTER_IP,
            forwarded(Some(Masqueraded::NotFromPod)),
        ),
        (
            "Cluster Cluster",
            both,
            POD,
            EXTERNAL_IP,
            forwarded(Some(Masqueraded::FromOutside)),
        ),
        ("Cluster Local", both, OUTSIDE, NODE_PORT, forwarded(None)),
        ("Cluster Local", both, POD, EXTERNAL_IP, forwarded(None)),
        (
            "Cluster Local",
            both,
            NODE,
            EXTERNAL_IP,
            forwarded(Some(Masqueraded::FromNode)),
        ),
        (
            "Cluster Local",
            there,
            OUTSIDE,
            NODE_PORT,
            dropped(Because::NoEndpointsHere),
        ),
        (
            "Local Cluster",
            there,
            POD,
            CLUSTER_IP,
            dropped(Because::NoEndpointsHere),
        ),
        (
            "Cluster Cluster",
            "u1",
            OUTSIDE,
            NODE_PORT,
            refused(Because::NoEndpoints),
        ),
        (
            "Cluster Cluster",
            both,
            POD,
            "10.96.0.10:81/TCP",
            refused(Because::NoSuchPort),
        ),
        (
            "Cluster Cluster",
            both,
            POD,
            "10.96.0.10:80/UDP",
            refused(Because::NoSuchPort),
        ),
        (
            "Cluster Cluster",
            both,
            POD,
            LOAD_BALANCER,
            dropped(Because::SourceRanges),
        ),
        (
            "Cluster Cluster",
            both,
            OUTSIDE,
            LOAD_BALANCER,
            forwarded(Some(Masqueraded::FromOutside)),
        ),
        (
            "Cluster Cluster",
            both,
            POD,
            "203.0.113.9:81/TCP",
            Outcome::Untouched,
        ),
        (
            "Cluster Cluster",
            both,
            POD,
            "192.0.2.2:30080/TCP",
            Outcome::Untouched,
        ),
    ] {
        let found = view(&[service(policies), slice(endpoints)], (from, to));
        assert_eq!(
            found.outcome, expected,
            "{policies}: {endpoints}: {from} to {to}"
        );
    }
}

#[test]
fn where_node_ports_are_served() {
    let service = json!({
        "kind": "Service",
        "metadata": {"namespace": "shop", "name": "web"},
        "spec": {
            "type": "NodePort",
            "clusterIP": "fd00:96::10",
            "ipFamilies": ["IPv6"],
            "ports": [{"name": "http", "port": 80, "nodePort": 30080}],
        },
    });
    let mut catalogue = Catalogue::default();
    catalogue.apply(change(&service));
    let nftables = Manners::default();
    let ipvs = Manners {
        names_no_interface: true,
        ..nftables
    };
    let listed = || NodePortAddresses::In(vec!["fe80::/10".parse().unwrap()]);
    let all = || NodePortAddresses::All;
    for (manners, node_ports, address, served) in [
        (nftables, all(), "[2001:db8::1]:30080", true),
        (nftables, all(), "[fe80::1]:30080", true),
        (nftables, listed(), "[fe80::1]:30080", true),
        (ipvs, all(), "[2001:db8::1]:30080", true),
        (ipvs, all(), "[fe80::1]:30080", false),
        (ipvs, listed(), "[fe80::1]:30080", false),
    ] {
        let view = View {
            catalogue: &catalogue,
            here: Here {
                node: "n1",
                zone: None,
                addresses: &[],
            },
            rules: &NodeRules {
                node_ports,
                ..NodeRules::default()
            },
            surroundings: &Surroundings {
                destination_on_node: true,
                ..Surroundings::default()
            },
            manners,
        };
        let found = view.explain(&Packet {
            source: "2001:db8::9".parse().unwrap(),
            destination: address.parse().unwrap(),
            protocol: Protocol::Tcp,
        });
        let untouched = found.outcome == Outcome::Untouched;
        assert_eq!(!untouched, served, "{view:?}: {address}");
    }
}

#[test]
fn whose_it_is() {
    let mut other = service("Cluster Local");
    other["metadata"]["name"] = json!("zoo");
    let objects = [service("Local Cluster"), other, slice("r1")];
    for (to, by, policy) in [
        (CLUSTER_IP, By::ClusterIp, TrafficPolicy::Local),
        (EXTERNAL_IP, By::ExternalIp, TrafficPolicy::Cluster),
        (LOAD_BALANCER, By::LoadBalancerIp, TrafficPolicy::Cluster),
        (NODE_PORT, By::NodePort, TrafficPolicy::Cluster),
    ] {
        let found = view(&objects, (OUTSIDE, to)).matched.unwrap();
        assert_eq!(
            found,
            Matched {
                service_port: "shop/web:http".into(),
                by,
                policy,
                contenders: vec!["shop/zoo:http".into()],
            }
        );
    }
}

#[test]
fn who_sends_it() {
    let bridge = |name: &str| Some(Pods::Bridge(name.parse().unwrap()));
    let prefix = |name: &str| Some(Pods::InterfacePrefix(name.parse().unwrap()));
    let network = || Some(Pods::Network("10.244.0.0/16".parse().unwrap()));
    for (pods, source, on_node, interface, expected) in [
        (network(), "10.244.1.1", false, "eth0", Origin::Pod),
        (network(), "10.244.1.1", true, "lo", Origin::Pod),
        (network(), "10.245.1.1", false, "cni0", Origin::Elsewhere),
        (bridge("cni0"), "10.245.1.1", false, "cni0", Origin::Pod),
        (bridge("cni0"), "10.245.1.1", true, "cni0", Origin::Node),
        (
            bridge("cni0"),
            "10.245.1.1",
            false,
            "cni00",
            Origin::Elsewhere,
        ),
        (prefix("veth"), "10.245.1.1", false, "veth7", Origin::Pod),
        (
            prefix("veth"),
            "10.245.1.1",
            false,
            "eth0",
            Origin::Elsewhere,
        ),
        (None, "10.244.1.1", false, "cni0", Origin::Elsewhere),
        (None, "10.244.1.1", true, "lo", Origin::Node),
    ] {
        let rules = NodeRules {
            pods,
            ..NodeRules::default()
        };
        let surroundings = Surroundings {
            source_on_node: on_node,
            source_interface: Some(interface.parse().unwrap()),
            destination_on_node: false,
        };
        let found = Origin::of(source.parse().unwrap(), &rules, &surroundings);
        assert_eq!(found, expected, "{rules:?} {source} {interface}");
    }
}
