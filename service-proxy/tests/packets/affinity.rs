//! Clients that keep their endpoint (F22).

use std::{net::SocketAddr, time::Duration};

use kernel::Family;

use crate::{
    eventually,
    external::{from_outside, front},
    manifest::{self, Listed, Service},
    names,
    network::{Network, PODS, Place},
    proxy::{Mode, Proxy},
    server::Transport,
};

const CLIENT_IP: &str = "\x20 sessionAffinity: ClientIP\n";
/// The chance that so many connections go to one of three endpoints without affinity is below 1e-9.
const MANY: usize = 20;

fn sticky(family: Family) -> Service {
    let endpoints = PODS.map(|pod| Listed::ready(pod, family));
    Service {
        spec: CLIENT_IP.into(),
        ..Service::new("sticky", manifest::cluster_ip(family, 30), endpoints)
    }
}

/// The only one who answers many connections.
fn only(network: &Network, from: Place, transport: Transport, to: SocketAddr) -> String {
    let answers = network.ask_many(from, transport, to, MANY);
    let names = names(&answers);
    assert_eq!(names.len(), 1, "{from:?} {transport:?} {to}: {names:?}");
    answers[0].name.clone()
}

/// Whether a client has the same endpoint at all addresses. A virtual server of IPVS knows its own clients alone.
fn is_shared() -> bool {
    Mode::of_run() != Mode::Ipvs
}

fn pod(name: &str) -> usize {
    PODS.iter().position(|pod| pod.name() == name).unwrap()
}

/// By cluster IP, external IP, load balancer and NodePort alike.
fn a_client_keeps_its_endpoint_at_all_addresses(family: Family) {
    let network = Network::new();
    let service = front(family, CLIENT_IP);
    network.write(&service);
    let _proxy = Proxy::start(&network);
    for from in [Place::Client, Place::Outside, Place::Node, Place::Pod1] {
        for transport in [Transport::Tcp, Transport::Udp] {
            let first = only(&network, from, transport, service.socket());
            for to in from_outside(family) {
                // The node has an address of its own for each network that it is in.
                if from != Place::Node {
                    let answered = only(&network, from, transport, to);
                    assert!(answered == first || !is_shared(), "{from:?} {to}");
                }
            }
        }
    }
}

#[test]
fn a_client_keeps_its_endpoint_at_all_addresses_v4() {
    a_client_keeps_its_endpoint_at_all_addresses(Family::V4);
}

#[test]
fn a_client_keeps_its_endpoint_at_all_addresses_v6() {
    a_client_keeps_its_endpoint_at_all_addresses(Family::V6);
}

fn local_traffic_policies_come_first(family: Family) {
    let network = Network::new();
    let local = "\x20 externalTrafficPolicy: Local\n\x20 internalTrafficPolicy: Local\n";
    let mut service = front(family, &format!("{CLIENT_IP}{local}"));
    let there = service.endpoints.clone();
    service.endpoints = PODS[..2]
        .iter()
        .map(|pod| Listed::ready(*pod, family))
        .collect();
    service.endpoints.push(there[2].clone());
    network.write(&service);
    let _proxy = Proxy::start(&network);
    let here = ["pod1", "pod2"];
    for to in from_outside(family) {
        let answered = only(&network, Place::Outside, Transport::Tcp, to);
        assert!(here.contains(&answered.as_str()), "{answered} {to}");
        let within = only(&network, Place::Outside, Transport::Tcp, service.socket());
        assert!(within == answered || !is_shared(), "{within} {to}");
        // A pod reaches all endpoints by these.
        only(&network, Place::Client, Transport::Tcp, to);
    }
    let answered = only(&network, Place::Client, Transport::Tcp, service.socket());
    assert!(here.contains(&answered.as_str()), "{answered}");
}

#[test]
fn local_traffic_policies_come_first_v4() {
    local_traffic_policies_come_first(Family::V4);
}

#[test]
fn local_traffic_policies_come_first_v6() {
    local_traffic_policies_come_first(Family::V6);
}

/// An endpoint that can't be used loses its sessions, also if it comes back.
fn an_endpoint_that_goes_loses_its_clients(family: Family) {
    let network = Network::new();
    let all = sticky(family);
    network.write(&all);
    let _proxy = Proxy::start(&network);
    let to = all.socket();
    let ask = || network.ask(Place::Client, Transport::Tcp, to).unwrap().name;
    let first = only(&network, Place::Client, Transport::Tcp, to);

    let mut fewer = all.clone();
    fewer.endpoints.remove(pod(&first));
    network.write(&fewer);
    eventually("another endpoint", || ask() != first);
    let second = only(&network, Place::Client, Transport::Tcp, to);
    assert_ne!(second, first);

    // The first one is back, as can be seen of a Service that was written later.
    network.write(&all);
    let marker = Service {
        name: "marker".into(),
        cluster_ip: manifest::cluster_ip(family, 31),
        ..all.clone()
    };
    network.write(&marker);
    let answers = || {
        network
            .ask(Place::Client, Transport::Tcp, marker.socket())
            .is_ok()
    };
    eventually("the marker", answers);
    assert_eq!(only(&network, Place::Client, Transport::Tcp, to), second);
}

#[test]
fn an_endpoint_that_goes_loses_its_clients_v4() {
    an_endpoint_that_goes_loses_its_clients(Family::V4);
}

#[test]
fn an_endpoint_that_goes_loses_its_clients_v6() {
    an_endpoint_that_goes_loses_its_clients(Family::V6);
}

#[test]
fn affinity_is_switched_live() {
    let network = Network::new();
    let mut service = sticky(Family::V4);
    network.write(&service);
    let _proxy = Proxy::start(&network);
    let several = |service: &Service| {
        let to = service.socket();
        let answers = network.ask_many(Place::Client, Transport::Tcp, to, MANY);
        names(&answers).len() > 1
    };
    for _ in 0..2 {
        assert!(!several(&service));
        service.spec = String::new();
        network.write(&service);
        eventually("all endpoints", || several(&service));
        service.spec = CLIENT_IP.into();
        network.write(&service);
        eventually("one endpoint", || !several(&service));
    }
}

#[test]
fn sessions_outlive_the_proxy() {
    let network = Network::new();
    let service = sticky(Family::V4);
    network.write(&service);
    let mut proxy = Proxy::start(&network);
    let to = service.socket();
    let first = only(&network, Place::Client, Transport::Tcp, to);
    proxy.kill();
    assert_eq!(only(&network, Place::Client, Transport::Tcp, to), first);
    let restarted = Proxy::start(&network);
    let log = restarted.log();
    assert!(
        log.contains("first sync: 0 elements added, 0 deleted, 0 other"),
        "{log}"
    );
    assert_eq!(only(&network, Place::Client, Transport::Tcp, to), first);
    network.nft("list ruleset");
}

/// Each new connection lets the session last for the whole time again; without any, it ends.
#[test]
fn sessions_end_after_their_time() {
    let network = Network::new();
    let mut service = sticky(Family::V4);
    network.write(&service);
    let _proxy = Proxy::start(&network);
    let ask = || {
        network
            .ask(Place::Client, Transport::Tcp, service.socket())
            .unwrap()
            .name
    };
    // As in `expires 2h59m58s120ms`.
    let remaining = || {
        let listed = network.nft("list map ip tweed-proxy sessions");
        let text = listed
            .split("expires ")
            .nth(1)
            .unwrap_or_default()
            .to_owned();
        let minutes = text.split_once('m').unwrap_or_default().1.to_owned();
        let seconds = minutes.split('s').next().unwrap_or_default();
        // `3h` while nothing of it has gone by.
        seconds.parse::<u32>().unwrap_or(60)
    };
    let first = ask();
    eventually("some of the time to go by", || {
        (30..57).contains(&remaining())
    });
    let before = remaining();
    assert_eq!(ask(), first);
    assert!(remaining() > before);

    let config = "\x20 sessionAffinityConfig: {clientIP: {timeoutSeconds: 1}}\n";
    service.spec = format!("{CLIENT_IP}{config}");
    network.write(&service);
    eventually("another endpoint after more than a second", || {
        std::thread::sleep(Duration::from_millis(1200));
        network
            .ask(Place::Client, Transport::Tcp, service.socket())
            .unwrap()
            .name
            != first
    });
}

/// 250 endpoints are no more rules than three, and no more look-ups.
#[test]
fn the_number_of_rules_does_not_grow_with_endpoints() {
    let network = Network::new();
    let mut service = sticky(Family::V4);
    let pod = service.endpoints[0].clone();
    let text = service.manifest();
    network.write(&service);
    let proxy = Proxy::start(&network);
    let rules = || {
        network
            .nft("list ruleset")
            .matches("update @sessions")
            .count()
    };
    let few = rules();
    service.endpoints = vec![pod];
    let address = PODS[0].address(Family::V4).to_string();
    let single = service.manifest();
    let line = single.lines().find(|line| line.contains(&address)).unwrap();
    let lines: String = (0..250)
        .map(|host| format!("{}\n", line.replace(&address, &format!("10.244.9.{host}"))))
        .collect();
    let many = single.replace(&format!("{line}\n"), &lines);
    assert_ne!(many, text);
    network.write_text("sticky", &many);
    eventually("the change", || proxy.log().contains("Services changed"));
    assert_eq!(rules(), few);
}
