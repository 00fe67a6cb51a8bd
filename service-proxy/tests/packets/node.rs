//! Rules that follow the Node object and ServiceCIDRs (F15, F16, F20, F27).

use std::{io::ErrorKind, net::SocketAddr};

use kernel::Family;

use crate::{
    eventually,
    external::{NODE_PORT, assert_dropped, front},
    manifest::{self, Listed, Service},
    network::{Network, PODS, Place},
    proxy::Proxy,
    server::Transport,
};

/// The Node object, with lines of its `spec` and `status`.
fn write_node(network: &Network, rest: &str) {
    let node = format!("apiVersion: v1\nkind: Node\nmetadata: {{name: node}}\n{rest}");
    network.write_text("node", &node);
}

fn status(address: impl ToString) -> String {
    let address = address.to_string();
    format!("status: {{addresses: [{{type: InternalIP, address: \"{address}\"}}]}}\n")
}

/// An address of a network of cluster IPs that no Service has is dropped; without such a network it is routed.
fn unknown_cluster_ips_are_dropped(family: Family) {
    let network = Network::new();
    let service = Service::new(
        "web",
        manifest::cluster_ip(family, 10),
        [Listed::ready(PODS[0], family)],
    );
    network.write(&service);
    let cidr = match family {
        Family::V4 => "10.96.0.0/16",
        Family::V6 => "fd00:96::/64",
    };
    let object = format!(
        "apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {{name: kubernetes}}\n\
         spec: {{cidrs: [\"{cidr}\"]}}\n"
    );
    network.write_text("cidr", &object);
    let _proxy = Proxy::start(&network);
    let unknown = SocketAddr::new(manifest::cluster_ip(family, 999), 80);
    let ask = |to| network.ask(Place::Client, Transport::Tcp, to);
    assert!(ask(service.socket()).is_ok());
    assert_dropped(&network, Place::Client, unknown);

    // Then the packet goes to where the default route leads, and nobody forwards it from there.
    network.remove("cidr");
    let listed = || network.nft("list ruleset").contains(cidr);
    eventually("the network to go", || !listed());
    assert!(ask(service.socket()).is_ok());
}

#[test]
fn unknown_cluster_ips_are_dropped_v4() {
    unknown_cluster_ips_are_dropped(Family::V4);
}

#[test]
fn unknown_cluster_ips_are_dropped_v6() {
    unknown_cluster_ips_are_dropped(Family::V6);
}

fn node_ports_at_the_primary_address(family: Family) {
    let network = Network::new();
    network.write(&front(family, ""));
    let ask = |place: Place| {
        let to = SocketAddr::new(place.gateway(family), NODE_PORT);
        let asked = network.ask(Place::Outside, Transport::Tcp, to);
        asked.map_err(|error| error.kind())
    };
    write_node(&network, &status(Place::Outside.gateway(family)));
    let _proxy = Proxy::start_with(&network, &["--nodeport-addresses", "primary"]);
    assert!(ask(Place::Outside).is_ok());
    assert_eq!(
        ask(Place::Client).unwrap_err(),
        ErrorKind::ConnectionRefused
    );

    write_node(&network, &status(Place::Client.gateway(family)));
    eventually("the other address", || ask(Place::Client).is_ok());
    assert_eq!(
        ask(Place::Outside).unwrap_err(),
        ErrorKind::ConnectionRefused
    );

    // Without any, all.
    write_node(&network, "");
    eventually("all addresses", || ask(Place::Outside).is_ok());
    assert!(ask(Place::Client).is_ok());
}

#[test]
fn node_ports_at_the_primary_address_v4() {
    node_ports_at_the_primary_address(Family::V4);
}

#[test]
fn node_ports_at_the_primary_address_v6() {
    node_ports_at_the_primary_address(Family::V6);
}

/// Pods are those of the Node's own networks, as soon as it names some (`NodeCIDR`).
fn pods_are_those_of_the_nodes_networks(family: Family) {
    let network = Network::new();
    let service = front(family, "");
    network.write(&service);
    let prefix = if family == Family::V4 { 24 } else { 64 };
    let of = |place: Place| {
        let address = place.address(family);
        format!("spec: {{podCIDRs: [\"{address}/{prefix}\"]}}\n")
    };
    write_node(&network, &of(Place::Client));
    let _proxy = Proxy::start_with(&network, &["--detect-local-mode", "NodeCIDR"]);
    let masqueraded = |place: Place| {
        let answer = network.ask(place, Transport::Tcp, service.socket());
        answer.unwrap().source != place.address(family)
    };
    assert!(!masqueraded(Place::Client) && masqueraded(Place::Outside));
    write_node(&network, &of(Place::Outside));
    eventually("the other network", || masqueraded(Place::Client));
    assert!(!masqueraded(Place::Outside));
    // Networks that were known once stay in force while the Node names none.
    write_node(&network, "");
    let later = Service::new(
        "later",
        manifest::cluster_ip(family, 11),
        [Listed::ready(PODS[0], family)],
    );
    network.write(&later);
    eventually("what comes after that", || {
        let answer = network.ask(Place::Outside, Transport::Tcp, later.socket());
        answer.is_ok()
    });
    assert!(masqueraded(Place::Client) && !masqueraded(Place::Outside));
}

#[test]
fn pods_are_those_of_the_nodes_networks_v4() {
    pods_are_those_of_the_nodes_networks(Family::V4);
}

#[test]
fn pods_are_those_of_the_nodes_networks_v6() {
    pods_are_those_of_the_nodes_networks(Family::V6);
}

/// Where the node may use the load balancer, so may who has the balancer's own address.
fn the_node_may_come_with_the_balancers_address(family: Family) {
    let network = Network::new();
    let node = Place::Outside.gateway(family);
    let prefix = if family == Family::V4 { 32 } else { 128 };
    let ranges = format!("\x20 loadBalancerSourceRanges: [\"{node}/{prefix}\"]\n");
    let service = front(family, &ranges);
    network.write(&service);
    write_node(&network, &status(node));
    let proxy = Proxy::start(&network);
    let balancer = service.load_balancer.unwrap();
    let allowed = || {
        let listing = network.nft("list ruleset");
        listing.contains(&format!("saddr {balancer} return"))
    };
    assert!(allowed(), "{}", network.nft("list ruleset"));
    let asked = network.ask(Place::Node, Transport::Tcp, SocketAddr::new(balancer, 80));
    assert!(asked.is_ok(), "{asked:?}: {}", proxy.log());
    assert_dropped(&network, Place::Client, SocketAddr::new(balancer, 80));
    write_node(&network, &status(Place::Client.gateway(family)));
    eventually("the node to be another", || !allowed());
}

#[test]
fn the_node_may_come_with_the_balancers_address_v4() {
    the_node_may_come_with_the_balancers_address(Family::V4);
}

#[test]
fn the_node_may_come_with_the_balancers_address_v6() {
    the_node_may_come_with_the_balancers_address(Family::V6);
}
