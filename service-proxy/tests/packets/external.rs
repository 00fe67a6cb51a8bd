//! Addresses that lead to Services from outside, and traffic policies (F10 to F12, F16 to F20, F25 to F27).

use std::{
    collections::BTreeSet,
    io::ErrorKind,
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use kernel::Family;

use crate::{
    foreign,
    manifest::{self, Listed, Service},
    names,
    network::{Network, PODS, Place},
    proxy::{Mode, Proxy},
    server::{Answer, Transport},
};

pub const NODE_PORT: u16 = 30080;
/// An answer comes before that, on slow machines too; so there is no need of more patience on them.
const SILENCE: Duration = Duration::from_secs(5);
/// The chance that one of three endpoints is never drawn is below 1e-10.
const MANY: usize = 60;

/// Who answers, and whom they see.
struct Row {
    from: Place,
    to: SocketAddr,
    pods: &'static [&'static str],
    masqueraded: bool,
}

/// A Service with every kind of address: pod1 is on the node, the others elsewhere.
pub fn front(family: Family, spec: &str) -> Service {
    let [here, there, far] = PODS.map(|pod| Listed::ready(pod, family));
    let external = manifest::external_ip(family, 9);
    Service {
        spec: format!("\x20 externalIPs: [\"{external}\"]\n{spec}"),
        load_balancer: Some(manifest::external_ip(family, 8)),
        node_port: Some(NODE_PORT),
        ..Service::new(
            "front",
            manifest::cluster_ip(family, 20),
            [here, there.elsewhere(), far.elsewhere()],
        )
    }
}

/// The external IP, the load balancer's, and a NodePort.
pub fn from_outside(family: Family) -> [SocketAddr; 3] {
    let node = Place::Outside.gateway(family);
    [
        SocketAddr::new(manifest::external_ip(family, 9), 80),
        SocketAddr::new(manifest::external_ip(family, 8), 80),
        SocketAddr::new(node, NODE_PORT),
    ]
}

#[test]
fn external_ips_are_not_served_where_their_gate_is_shut() {
    for (gate, served) in [("true", true), ("false", false)] {
        let network = Network::new();
        network.write(&front(Family::V4, ""));
        let gate = format!("--feature-gates=AllowServiceExternalIPs={gate}");
        let _proxy = Proxy::start_with(&network, &[&gate]);
        let [external, balancer, node_port] = from_outside(Family::V4);
        let external = external.ip().to_string();
        assert_eq!(network.nft("list ruleset").contains(&external), served);
        for to in [balancer, node_port] {
            assert!(network.ask(Place::Outside, Transport::Tcp, to).is_ok());
        }
    }
}

impl Row {
    fn assert(&self, network: &Network) {
        for transport in [Transport::Tcp, Transport::Udp] {
            self.assert_by(network, transport);
        }
    }

    fn assert_by(&self, network: &Network, transport: Transport) {
        let family = Family::of(&self.to.ip());
        let what = format!("{:?} to {}", self.from, self.to);
        let answers = network.ask_many(self.from, transport, self.to, MANY);
        let expected: BTreeSet<_> = self.pods.iter().copied().collect();
        assert_eq!(names(&answers), expected, "{what} {transport:?}");
        for answer in answers {
            assert_eq!(
                answer.source,
                self.source(&answer, family),
                "{what} {answer:?}"
            );
        }
    }

    fn source(&self, answer: &Answer, family: Family) -> IpAddr {
        let pod = PODS.into_iter().find(|pod| pod.name() == answer.name);
        if self.masqueraded {
            pod.unwrap().gateway(family)
        } else {
            self.from.address(family)
        }
    }
}

pub fn assert_dropped(network: &Network, from: Place, to: SocketAddr) {
    let connect = || TcpStream::connect_timeout(&to, SILENCE);
    let error = network.namespace(from).run(connect).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{from:?} to {to}");
}

const ALL: &[&str] = &["pod1", "pod2", "pod3"];
const HERE: &[&str] = &["pod1"];

fn policy_cluster(family: Family) {
    let network = Network::new();
    network.write(&front(family, ""));
    let _proxy = Proxy::start(&network);
    for to in from_outside(family) {
        for from in [Place::Client, Place::Outside, Place::Node] {
            Row {
                from,
                to,
                pods: ALL,
                masqueraded: true,
            }
            .assert(&network);
        }
    }
}

#[test]
fn policy_cluster_v4() {
    policy_cluster(Family::V4);
}

#[test]
fn policy_cluster_v6() {
    policy_cluster(Family::V6);
}

fn policy_local(family: Family) {
    let network = Network::new();
    let local = "\x20 externalTrafficPolicy: Local\n\x20 internalTrafficPolicy: Local\n";
    let mut service = front(family, local);
    network.write(&service);
    let _proxy = Proxy::start(&network);
    let row = |from, to, pods, masqueraded| Row {
        from,
        to,
        pods,
        masqueraded,
    };
    for to in from_outside(family) {
        row(Place::Outside, to, HERE, false).assert(&network);
        row(Place::Client, to, ALL, false).assert(&network);
        row(Place::Node, to, ALL, true).assert(&network);
    }
    row(Place::Client, service.socket(), HERE, false).assert(&network);
    row(Place::Outside, service.socket(), HERE, true).assert(&network);

    // No endpoint is on the node any more: silence for those who would need one there.
    service.endpoints.remove(0);
    network.write(&service);
    let [_, balancer, _] = from_outside(family);
    let from_client = || network.ask_many(Place::Client, Transport::Tcp, balancer, MANY);
    crate::eventually("the change", || !names(&from_client()).contains("pod1"));
    let rest = &["pod2", "pod3"];
    for to in from_outside(family) {
        assert_dropped(&network, Place::Outside, to);
        row(Place::Client, to, rest, false).assert(&network);
        row(Place::Node, to, rest, true).assert(&network);
    }
    assert_dropped(&network, Place::Client, service.socket());
}

#[test]
fn policy_local_v4() {
    policy_local(Family::V4);
}

#[test]
fn policy_local_v6() {
    policy_local(Family::V6);
}

fn without_endpoints_all_addresses_refuse(family: Family) {
    let network = Network::new();
    let mut service = front(family, "\x20 externalTrafficPolicy: Local\n");
    service.endpoints.clear();
    network.write(&service);
    let _proxy = Proxy::start(&network);
    for to in from_outside(family) {
        for from in [Place::Outside, Place::Client, Place::Node] {
            let error = network.ask(from, Transport::Tcp, to).unwrap_err();
            assert_eq!(
                error.kind(),
                ErrorKind::ConnectionRefused,
                "{from:?} to {to}"
            );
        }
    }
}

#[test]
fn without_endpoints_all_addresses_refuse_v4() {
    without_endpoints_all_addresses_refuse(Family::V4);
}

#[test]
fn without_endpoints_all_addresses_refuse_v6() {
    without_endpoints_all_addresses_refuse(Family::V6);
}

fn only_some_may_use_the_load_balancer(family: Family) {
    let network = Network::new();
    let outside = Place::Outside.address(family);
    let prefix = if family == Family::V4 { 32 } else { 128 };
    let ranges = format!("\x20 loadBalancerSourceRanges: [\"{outside}/{prefix}\"]\n");
    network.write(&front(family, &ranges));
    let _proxy = Proxy::start(&network);
    let [external, balancer, node_port] = from_outside(family);
    for (from, to) in [
        (Place::Outside, balancer),
        (Place::Client, external),
        (Place::Client, node_port),
    ] {
        Row {
            from,
            to,
            pods: ALL,
            masqueraded: true,
        }
        .assert(&network);
    }
    assert_dropped(&network, Place::Client, balancer);
    let error = network
        .ask(Place::Node, Transport::Tcp, balancer)
        .unwrap_err();
    // The kernel tells a sender on the node itself, or it does not: no answer either way.
    assert!(
        [ErrorKind::TimedOut, ErrorKind::PermissionDenied].contains(&error.kind()),
        "{error}"
    );
}

#[test]
fn only_some_may_use_the_load_balancer_v4() {
    only_some_may_use_the_load_balancer(Family::V4);
}

#[test]
fn only_some_may_use_the_load_balancer_v6() {
    only_some_may_use_the_load_balancer(Family::V6);
}

/// Options that say who is a pod and what is masqueraded: whether the client and somebody outside are.
#[test]
fn pods_are_known_as_the_options_say() {
    let service = front(Family::V4, "");
    for (options, client, outside) in [
        (&[][..], false, false),
        (&["--masquerade-all"], true, true),
        (
            &[
                "--detect-local-mode=BridgeInterface",
                "--pod-bridge-interface=client",
            ],
            false,
            true,
        ),
        (
            &[
                "--detect-local-mode=InterfaceNamePrefix",
                "--pod-interface-name-prefix=out",
            ],
            true,
            false,
        ),
    ] {
        let network = Network::new();
        network.write(&service);
        let mut proxy = Proxy::start_with(&network, options);
        for (from, masqueraded) in [(Place::Client, client), (Place::Outside, outside)] {
            Row {
                from,
                to: service.socket(),
                pods: ALL,
                masqueraded,
            }
            .assert(&network);
        }
        proxy.terminate();
        if Mode::of_run() != Mode::Nftables || foreign::program().is_some() {
            continue;
        }
        let listing = network.nft("list table ip tweed-proxy");
        assert_eq!(
            listing.contains("\"out*\""),
            options.len() == 2 && client,
            "{listing}"
        );
    }
}

/// With hints for zones everywhere, the zone of the node decides, as soon as it is known (F13).
#[test]
fn topology_hints_follow_the_zone_of_the_node() {
    let network = Network::new();
    let service = Service::new(
        "near",
        manifest::cluster_ip(Family::V4, 20),
        PODS.map(|pod| Listed::ready(pod, Family::V4)),
    );
    let zones = ["a", "b", "a"];
    let mut text = service.manifest();
    for (pod, zone) in PODS.into_iter().zip(zones) {
        let address = format!("- {{addresses: [\"{}\"]", pod.address(Family::V4));
        let hinted = format!("{address}, hints: {{forZones: [{{name: {zone}}}]}}");
        text = text.replace(&address, &hinted);
    }
    network.write_text("near", &text);
    let _proxy = Proxy::start(&network);
    let ask = || network.ask_many(Place::Client, Transport::Tcp, service.socket(), MANY);
    assert_eq!(names(&ask()), BTreeSet::from(["pod1", "pod2", "pod3"]));
    for (zone, expected) in [("a", &["pod1", "pod3"][..]), ("b", &["pod2"])] {
        let node = format!(
            "apiVersion: v1\nkind: Node\nmetadata: {{name: node, labels: {{topology.kubernetes.io/zone: {zone}}}}}\n"
        );
        network.write_text("node", &node);
        let expected: BTreeSet<_> = expected.iter().copied().collect();
        crate::eventually("the endpoints of the zone", || names(&ask()) == expected);
    }
}

#[test]
fn node_ports_are_served_on_the_addresses_that_are_asked_for() {
    let network = Network::new();
    network.write(&front(Family::V4, ""));
    let _proxy = Proxy::start_with(
        &network,
        &["--nodeport-addresses", "192.0.2.0/24,192.0.2.1/32,fd00::/8"],
    );
    let ask = |place: Place| {
        let to = SocketAddr::new(place.gateway(Family::V4), NODE_PORT);
        network.ask(Place::Outside, Transport::Tcp, to)
    };
    assert!(ask(Place::Outside).is_ok());
    // No NodePort there, and nobody listens either.
    let refused = ask(Place::Client).unwrap_err().kind();
    assert_eq!(refused, ErrorKind::ConnectionRefused);
}
