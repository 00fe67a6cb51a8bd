//! NodePorts on 127.0.0.1 and ::1 (F17).

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
};

use kernel::Family;

use crate::{
    MANY, all_pods, eventually,
    external::NODE_PORT,
    manifest::{Listed, Service},
    names,
    network::{CLUSTER_CIDR, Network, PODS, Place},
    proxy::Proxy,
    server::Transport,
    web,
};

pub fn loopback(family: Family, port: u16) -> SocketAddr {
    let address: IpAddr = match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(address, port)
}

fn on_node_port(family: Family, port: u16, spec: &str) -> Service {
    Service {
        spec: format!("\x20 type: NodePort\n{spec}"),
        node_port: Some(port),
        ..web(family)
    }
}

fn start(network: &Network, addresses: &str) -> Proxy {
    let options = [
        "--cluster-cidr",
        CLUSTER_CIDR,
        "--nodeport-addresses",
        addresses,
    ];
    Proxy::start_with(network, &options)
}

fn is_answered(network: &Network, to: SocketAddr) -> bool {
    network.ask(Place::Node, Transport::Tcp, to).is_ok()
}

fn is_refused(network: &Network, to: SocketAddr) -> bool {
    let answer = network.ask(Place::Node, Transport::Tcp, to);
    answer.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

/// All pods answer, and see the node.
fn assert_all_answer(network: &Network, to: SocketAddr) {
    eventually("an answer on loopback", || is_answered(network, to));
    for transport in [Transport::Tcp, Transport::Udp] {
        let answers = network.ask_many(Place::Node, transport, to, MANY);
        assert_eq!(names(&answers), all_pods(), "{transport:?}");
        for answer in answers {
            let pod = PODS.into_iter().find(|pod| pod.name() == answer.name);
            let gateway = pod.unwrap().gateway(Family::of(&to.ip()));
            assert_eq!(answer.source, gateway, "{transport:?}");
        }
    }
}

fn node_ports_are_served_on_loopback(family: Family) {
    let network = Network::new();
    let primary = Place::Outside.gateway(family);
    let node = format!(
        "apiVersion: v1\nkind: Node\nmetadata: {{name: node}}\n\
         status: {{addresses: [{{type: InternalIP, address: \"{primary}\"}}]}}\n"
    );
    network.write_text("node", &node);
    network.write(&on_node_port(family, NODE_PORT, ""));
    let _proxy = start(&network, "all");
    let to = loopback(family, NODE_PORT);
    assert_all_answer(&network, to);
    let mut open = network.connect(Place::Node, to);
    open.assert_echoes();

    // Another port, with connections that stay.
    network.write(&on_node_port(family, NODE_PORT + 1, ""));
    eventually("the old port to be closed", || is_refused(&network, to));
    let to = loopback(family, NODE_PORT + 1);
    assert_all_answer(&network, to);
    open.assert_echoes();

    // Nobody is left.
    let mut empty = on_node_port(family, NODE_PORT + 1, "");
    empty.endpoints.clear();
    network.write(&empty);
    eventually("no answer", || !is_answered(&network, to));

    // What the Service has for others does not matter on the node.
    let policies = "\x20 internalTrafficPolicy: Local\n\x20 externalTrafficPolicy: Local\n";
    let mut local = on_node_port(family, NODE_PORT + 1, policies);
    local.endpoints = PODS
        .map(|pod| Listed::ready(pod, family).elsewhere())
        .to_vec();
    network.write(&local);
    assert_all_answer(&network, to);

    network.write(&web(family));
    eventually("the port to be closed", || is_refused(&network, to));
}

#[test]
fn node_ports_are_served_on_loopback_v4() {
    node_ports_are_served_on_loopback(Family::V4);
}

#[test]
fn node_ports_are_served_on_loopback_v6() {
    node_ports_are_served_on_loopback(Family::V6);
}

/// Datagrams of one client go to one endpoint, for as long as that is there.
fn datagrams_on_loopback_are_flows(family: Family) {
    let network = Network::new();
    let mut service = on_node_port(family, NODE_PORT, "");
    network.write(&service);
    let _proxy = start(&network, "all");
    let to = loopback(family, NODE_PORT);
    let asks = || network.ask(Place::Node, Transport::Udp, to);
    eventually("an answer on loopback", || asks().is_ok());
    let client = network.datagrams(Place::Node, to);
    let first = client.ask().unwrap().name;
    for _ in 0..10 {
        assert_eq!(client.ask().unwrap().name, first);
    }
    let gone = PODS.iter().position(|pod| pod.name() == first);
    service.endpoints.remove(gone.unwrap());
    network.write(&service);
    eventually("another endpoint", || {
        client.ask().is_ok_and(|answer| answer.name != first)
    });
}

#[test]
fn datagrams_on_loopback_are_flows_v4() {
    datagrams_on_loopback_are_flows(Family::V4);
}

#[test]
fn datagrams_on_loopback_are_flows_v6() {
    datagrams_on_loopback_are_flows(Family::V6);
}

fn loopback_alone(family: Family) {
    let network = Network::new();
    network.write(&on_node_port(family, NODE_PORT, ""));
    let _proxy = start(&network, "localhost");
    assert_all_answer(&network, loopback(family, NODE_PORT));
    let node = SocketAddr::new(Place::Outside.gateway(family), NODE_PORT);
    let outside = network.ask(Place::Outside, Transport::Tcp, node);
    assert_eq!(outside.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn loopback_alone_v4() {
    loopback_alone(Family::V4);
}

#[test]
fn loopback_alone_v6() {
    loopback_alone(Family::V6);
}

#[test]
fn nftables_mode_serves_loopback_where_it_is_told_to() {
    let network = Network::new();
    network.write(&on_node_port(Family::V4, NODE_PORT, ""));
    let _proxy = Proxy::start(&network);
    let node = SocketAddr::new(Place::Outside.gateway(Family::V4), NODE_PORT);
    assert_all_answer(&network, node);
    assert!(is_refused(&network, loopback(Family::V4, NODE_PORT)));
}

#[test]
fn a_port_that_is_taken_is_told_of_once_and_had_when_it_is_free() {
    let network = Network::new();
    let to = loopback(Family::V4, NODE_PORT);
    let taken = network.namespace(Place::Node).run(|| TcpListener::bind(to));
    let taken = taken.unwrap().unwrap();
    network.write(&on_node_port(Family::V4, NODE_PORT, ""));
    let proxy = start(&network, "primary,localhost");
    let told = || proxy.log().matches("can't serve its nodePort at").count();
    eventually("the port to be told of", || told() == 1);
    drop(taken);
    assert_all_answer(&network, to);
    assert_eq!(told(), 1, "{}", proxy.log());
}
