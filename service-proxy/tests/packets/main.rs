//! Real packets through the real program: a node, pods and clients as network namespaces.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod affinity;
mod check_ports;
mod external;
mod foreign;
mod health;
mod hot_switch;
mod http;
mod inspect;
mod invalid;
mod iptables;
mod ipvs;
mod ipvs_filter;
mod load;
mod localhost;
mod manifest;
mod modes;
mod network;
mod node;
mod proxy;
mod removed;
mod restart;
mod server;
mod switch;
mod takeover;
mod tuning;

use std::{
    collections::BTreeSet,
    fs,
    io::ErrorKind,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use kernel::{Family, nft};

use self::{
    manifest::{Listed, Service},
    network::{Network, PODS, Place},
    proxy::Proxy,
    server::{Answer, Transport},
};

/// Connections from one place: the chance that one of three endpoints gets none of them is below 1e-10.
const MANY: usize = 60;

/// Asks from a place until an answer is as it should be.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + lab::patience(Duration::from_secs(20));
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The Service of the tests, by all pods.
fn web(family: Family) -> Service {
    Service::new(
        "web",
        manifest::cluster_ip(family, 10),
        PODS.map(|pod| Listed::ready(pod, family)),
    )
}

fn names(answers: &[Answer]) -> BTreeSet<&str> {
    answers.iter().map(|answer| answer.name.as_str()).collect()
}

fn all_pods() -> BTreeSet<&'static str> {
    PODS.iter().map(|pod| pod.name()).collect()
}

/// What `place` sees of a Service that all pods are endpoints of.
fn assert_served(network: &Network, place: Place, to: SocketAddr, masqueraded: bool) {
    let family = Family::of(&to.ip());
    for transport in [Transport::Tcp, Transport::Udp] {
        let answers = network.ask_many(place, transport, to, MANY);
        assert_eq!(names(&answers), all_pods(), "{place:?} {transport:?} {to}");
        for answer in answers {
            let pod = PODS
                .into_iter()
                .find(|pod| pod.name() == answer.name)
                .unwrap();
            let expected: IpAddr = if masqueraded || pod == place {
                pod.gateway(family)
            } else {
                place.address(family)
            };
            assert_eq!(
                answer.source, expected,
                "{place:?} {transport:?} {to} by {pod:?}"
            );
        }
    }
}

fn everybody_reaches_every_endpoint(family: Family) {
    let network = Network::new();
    let service = web(family);
    network.write(&service);
    let _proxy = Proxy::start(&network);
    let to = service.socket();
    for (place, masqueraded) in [
        (Place::Client, false),
        (Place::Outside, true),
        (Place::Node, true),
        // An endpoint that reaches itself is masqueraded, and one that reaches another is not.
        (Place::Pod1, false),
    ] {
        assert_served(&network, place, to, masqueraded);
    }
}

#[test]
fn everybody_reaches_every_endpoint_v4() {
    everybody_reaches_every_endpoint(Family::V4);
}

#[test]
fn everybody_reaches_every_endpoint_v6() {
    everybody_reaches_every_endpoint(Family::V6);
}

fn what_nobody_serves_is_refused_at_once(family: Family) {
    let network = Network::new();
    let empty = Service::new("empty", manifest::cluster_ip(family, 11), []);
    network.write(&web(family));
    network.write(&empty);
    let _proxy = Proxy::start(&network);
    let wrong_port = SocketAddr::new(web(family).socket().ip(), 81);
    for place in [Place::Client, Place::Outside, Place::Node, Place::Pod1] {
        for to in [empty.socket(), wrong_port] {
            for transport in [Transport::Tcp, Transport::Udp] {
                let refused = network.ask(place, transport, to).unwrap_err().kind();
                let expected = match (place, transport) {
                    // The kernel tells a sender on the node itself before the ICMP error does.
                    (Place::Node, Transport::Udp) => ErrorKind::PermissionDenied,
                    _ => ErrorKind::ConnectionRefused,
                };
                assert_eq!(refused, expected, "{place:?} {transport:?} {to}");
            }
        }
    }
}

#[test]
fn what_nobody_serves_is_refused_at_once_v4() {
    what_nobody_serves_is_refused_at_once(Family::V4);
}

#[test]
fn what_nobody_serves_is_refused_at_once_v6() {
    what_nobody_serves_is_refused_at_once(Family::V6);
}

fn manifests_are_followed_live(family: Family) {
    let network = Network::new();
    let mut service = web(family);
    network.write(&service);
    let proxy = Proxy::start(&network);
    let to = service.socket();
    let from_client = || network.ask_many(Place::Client, Transport::Tcp, to, MANY);
    assert_eq!(names(&from_client()), all_pods());

    service.endpoints.remove(1);
    network.write(&service);
    eventually("pod2 to be out of the Service", || {
        !names(&from_client()).contains("pod2")
    });
    assert_eq!(names(&from_client()), BTreeSet::from(["pod1", "pod3"]));

    // A bad manifest is told of once, and the others are followed all the same.
    fs::write(
        network.manifests().join("bad.yaml"),
        "kind: Service\nspec: [",
    )
    .unwrap();
    service.endpoints.remove(0);
    network.write(&service);
    eventually("pod1 to be out of the Service", || {
        names(&from_client()) == BTreeSet::from(["pod3"])
    });
    eventually("the bad manifest to be told of", || {
        proxy.log().contains("bad.yaml")
    });
    assert_eq!(proxy.log().matches("bad.yaml").count(), 1);

    // While none is ready, those that still serve on their way out are taken.
    service.endpoints = vec![Listed::terminating(Place::Pod2, family)];
    network.write(&service);
    eventually("pod2 to serve on its way out", || {
        names(&from_client()) == BTreeSet::from(["pod2"])
    });

    network.remove("web");
    let gone = || !network.nft("list ruleset").contains("default/web");
    eventually("the Service to be gone", gone);
}

#[test]
fn manifests_are_followed_live_v4() {
    manifests_are_followed_live(Family::V4);
}

#[test]
fn manifests_are_followed_live_v6() {
    manifests_are_followed_live(Family::V6);
}

/// The generation of the node's rule set, which every change of any table raises.
fn generation(network: &Network) -> u32 {
    let mut handle = nft::Handle::open_in(network.namespace(Place::Node)).unwrap();
    handle
        .read(Family::V4, "tweed-proxy")
        .unwrap()
        .unwrap()
        .generation
}

#[test]
fn a_killed_proxy_takes_over_what_stands_and_changes_nothing() {
    let network = Network::new();
    let service = web(Family::V4);
    network.write(&service);
    let mut proxy = Proxy::start(&network);
    let before = generation(&network);
    let mut open = network.connect(Place::Client, service.socket());
    open.assert_echoes();

    proxy.kill();
    assert_served(&network, Place::Client, service.socket(), false);
    let restarted = Proxy::start(&network);
    open.assert_echoes();
    assert_eq!(generation(&network), before, "{}", restarted.log());
    assert!(
        restarted
            .log()
            .contains("first sync: 0 elements added, 0 deleted, 0 other")
    );
}

#[test]
fn drift_is_repaired_and_others_are_left_alone() {
    let network = Network::new();
    let service = web(Family::V4);
    network.write(&service);
    network.nft("add table ip others; add chain ip others theirs; add table inet tweed");
    // Long enough for a full sync not to be what repairs.
    let options = [
        "--cluster-cidr",
        network::CLUSTER_CIDR,
        "--sync-period",
        "1h",
    ];
    let mut proxy = Proxy::start_with(&network, &options);
    assert_served(&network, Place::Client, service.socket(), false);
    for drift in [
        "delete table ip tweed-proxy",
        "flush map ip tweed-proxy services",
        "flush chain ip tweed-proxy look-up",
        "add element ip tweed-proxy cluster-ips { 203.0.113.9 }",
    ] {
        let repaired = proxy.log().matches("repaired").count();
        network.nft(drift);
        eventually(drift, || proxy.log().matches("repaired").count() > repaired);
        assert_served(&network, Place::Client, service.socket(), false);
    }
    proxy.terminate();
    assert_served(&network, Place::Client, service.socket(), false);
    let cleaned = Proxy::clean_up(&network);
    assert!(cleaned.success());
    let rest = network.nft("list ruleset");
    assert!(
        rest.contains("chain theirs") && rest.contains("table inet tweed {"),
        "{rest}"
    );
    assert!(!rest.contains("tweed-proxy"), "{rest}");
    assert!(Proxy::clean_up(&network).success());
}

#[test]
fn the_number_of_rules_does_not_grow_with_services() {
    let network = Network::new();
    let write = |numbers: std::ops::Range<u16>| {
        for number in numbers {
            let address = manifest::cluster_ip(Family::V4, 1000 + number);
            let endpoints = PODS.map(|pod| Listed::ready(pod, Family::V4));
            network.write(&Service::new(&format!("s{number}"), address, endpoints));
        }
    };
    let rules = || {
        let ruleset = network.nft("list ruleset");
        let statement = |line: &&str| line.starts_with("\t\t") && !line.contains(" hook ");
        let chains = ruleset.split("\tchain ").skip(1);
        chains.flat_map(str::lines).filter(statement).count()
    };
    let answers = |number: u16| {
        let to = SocketAddr::new(manifest::cluster_ip(Family::V4, 1000 + number), 80);
        network.ask(Place::Client, Transport::Tcp, to).is_ok()
    };
    write(0..3);
    let _proxy = Proxy::start(&network);
    assert!(answers(2));
    let few = rules();
    assert!(few > 5, "{few}");
    write(3..300);
    eventually("the last Service to answer", || answers(299));
    assert_eq!(rules(), few);
}

/// What `nft list ruleset` prints can be loaded again, and does what it did.
#[test]
fn the_listing_can_be_loaded_and_is_ours_still() {
    let network = Network::new();
    let service = web(Family::V4);
    network.write(&service);
    let mut proxy = Proxy::start(&network);
    proxy.terminate();
    let listing = network.nft("list ruleset");
    let file = network.manifests().join("ruleset");
    fs::write(&file, format!("flush ruleset\n{listing}")).unwrap();
    network.nft(&format!("include \"{}\"", file.display()));
    assert_eq!(network.nft("list ruleset"), listing);
    assert_served(&network, Place::Client, service.socket(), false);
    let restarted = Proxy::start(&network);
    assert!(
        restarted
            .log()
            .contains("first sync: 0 elements added, 0 deleted, 0 other"),
        "{}",
        restarted.log()
    );
}

/// Connections that are made while endpoints come and go are all answered: each commit finds some on their
/// way through the rules.
#[test]
fn no_connection_is_lost_to_a_commit() {
    let network = Network::new();
    let mut service = web(Family::V4);
    network.write(&service);
    let proxy = Proxy::start(&network);
    let to = service.socket();
    let all = service.endpoints.clone();
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let mut asked = 0;
            while proxy.log().matches("Services changed").count() < 5 {
                asked += network
                    .ask_many(Place::Client, Transport::Tcp, to, MANY)
                    .len();
            }
            asked
        });
        for round in 0.. {
            if asked.is_finished() {
                break;
            }
            service.endpoints = all[..[3, 1][round % 2]].to_vec();
            network.write(&service);
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(asked.join().unwrap() > 0);
    });
}

/// A client that sends from one port for ever reaches another endpoint when its own has gone (F34).
fn datagrams_find_another_endpoint(family: Family) {
    let network = Network::new();
    let mut service = web(family);
    network.write(&service);
    let cluster_ip = service.socket();
    let _proxy = Proxy::start(&network);
    let client = network.datagrams(Place::Client, cluster_ip);
    let first = client.ask().unwrap().name;
    assert_eq!(client.ask().unwrap().name, first);

    let index = PODS.iter().position(|pod| pod.name() == first).unwrap();
    service.endpoints.remove(index);
    network.write(&service);
    // The answer that is on its way while the flow is forgotten is lost.
    eventually("another endpoint", || {
        client.ask().is_ok_and(|answer| answer.name != first)
    });
    // A datagram may be lost where the machine is busy.
    let second = || {
        let mut asked = (0..3).map(|_| client.ask());
        asked.find_map(Result::ok).map(|answer| answer.name)
    };
    let known = second();
    assert!(known.is_some());
    assert_eq!(known, second());

    service.endpoints.clear();
    network.write(&service);
    eventually("a refusal", || client.ask().is_err());

    service.endpoints = vec![Listed::ready(PODS[index], family)];
    network.write(&service);
    eventually("the first one to be back", || {
        client.ask().is_ok_and(|answer| answer.name == first)
    });
}

#[test]
fn datagrams_find_another_endpoint_v4() {
    datagrams_find_another_endpoint(Family::V4);
}

#[test]
fn datagrams_find_another_endpoint_v6() {
    datagrams_find_another_endpoint(Family::V6);
}

/// A commit seen half-way: the way to three slots of which two have gone.
fn a_slot_that_has_gone_is_no_loss(family: Family) {
    let network = Network::new();
    let service = web(family);
    network.write(&service);
    let mut proxy = Proxy::start(&network);
    proxy.terminate();
    let word = match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    };
    let address = service.cluster_ip;
    let slots = [1, 2].map(|slot| format!("{address} . tcp . 80 . {slot}"));
    let slots = slots.join(", ");
    network.nft(&format!(
        "delete element {word} tweed-proxy endpoints {{ {slots} }}"
    ));
    let answers = network.ask_many(Place::Client, Transport::Tcp, service.socket(), MANY);
    assert_eq!(names(&answers).len(), 1);
}

#[test]
fn a_slot_that_has_gone_is_no_loss_v4() {
    a_slot_that_has_gone_is_no_loss(Family::V4);
}

#[test]
fn a_slot_that_has_gone_is_no_loss_v6() {
    a_slot_that_has_gone_is_no_loss(Family::V6);
}
