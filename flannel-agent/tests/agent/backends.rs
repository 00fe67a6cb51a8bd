//! The ways that packets take between nodes, by packets between pods.

use std::net::IpAddr;

use kernel::Family;
use nix::sys::signal::Signal;

use crate::{
    lab::{Lab, Node, TestNamespace, eventually},
    nodes::{talks, wait_for_peers},
};

/// A node with the name of its lease and a pod.
pub struct Site {
    pub node: Node,
    pub lease: String,
    pub pod: TestNamespace,
    pub address: IpAddr,
}

// === impl Site ===

impl Site {
    /// Starts an agent on a node, and a pod in its subnet.
    pub fn start(lab: &Lab, mut node: Node, address: &str, arguments: &[&str]) -> Self {
        node.start_ready(arguments);
        let (lease, _) = lab.etcd.lease_of(&format!("\"{address}\"")).unwrap();
        let (pod, address) = node.pod_in(&lease);
        Self {
            node,
            lease,
            pod,
            address,
        }
    }

    /// The route to another node's subnet.
    pub fn route_to(&self, other: &Self) -> String {
        let ipv4 = other.lease.split('&').next().unwrap();
        let subnet = ipv4.replace('-', "/");
        let route = self.node.ip("ip", &["route", "show", &subnet]);
        route.trim().to_owned()
    }

    pub fn talks_to(&self, other: &Self) -> bool {
        talks(&self.pod, self.address, &other.pod, other.address)
            && talks(&other.pod, other.address, &self.pod, self.address)
    }
}

/// A node on the common link with its agent and a pod.
pub fn near(lab: &Lab, number: u8) -> Site {
    Site::start(lab, lab.node(number), &format!("192.168.64.{number}"), &[])
}

#[test]
fn nodes_on_the_link_are_routed_to_directly_and_others_by_vxlan() {
    let conf = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","DirectRouting":true,"Learning":true,"GBP":true,"VNI":9,"Port":4789,"MTU":1400}}"#;
    let mut lab = Lab::new("direct", conf);
    let (one, two) = (near(&lab, 1), near(&lab, 2));
    let far = Site::start(&lab, lab.far_node(3), "192.168.65.3", &[]);
    let link = one.node.ip("ip", &["-d", "link", "show", "flannel.9"]);
    for part in [" mtu 1350 ", "vxlan id 9 ", " dstport 4789 ", " gbp "] {
        assert!(link.contains(part), "no {part} in {link}");
    }
    assert!(!link.contains("nolearning"), "{link}");

    let gateway = far.lease.split('-').next().unwrap();
    let direct = "via 192.168.64.2 dev eth0 proto 84";
    let are_right = || {
        one.route_to(&two).ends_with(direct)
            && one
                .route_to(&far)
                .ends_with(&format!("via {gateway} dev flannel.9 proto 84 onlink"))
    };
    eventually("the routes are right", are_right);
    assert!(one.talks_to(&two) && one.talks_to(&far) && two.talks_to(&far));
    let neighbours = one
        .node
        .ip("ip", &["-4", "neigh", "show", "dev", "flannel.9"]);
    assert_eq!(neighbours.lines().count(), 1, "{neighbours}");

    lab.etcd.stop();
    one.node.ip("ip", &["link", "set", "eth0", "down"]);
    one.node.ip("ip", &["link", "set", "eth0", "up"]);
    // The kernel has taken that with the link; the network's configuration would put it back.
    one.node
        .ip("ip", &["route", "add", "default", "via", "192.168.64.254"]);
    eventually("the routes are right after a flap", are_right);
    assert!(one.talks_to(&two) && one.talks_to(&far));

    // Who takes the link's own route has nodes on it reached by the tunnel.
    let connected = ["192.168.64.0/24", "dev", "eth0"];
    one.node
        .ip("ip", &[&["route", "delete"], &connected[..]].concat());
    one.node
        .ip("ip", &["route", "add", "192.168.64.254", "dev", "eth0"]);
    eventually("the tunnel is used", || {
        one.route_to(&two).contains(" dev flannel.9 ")
    });
    let source = ["proto", "kernel", "src", "192.168.64.1"];
    one.node
        .ip("ip", &[&["route", "add"], &connected[..], &source].concat());
    eventually("the link is used again", are_right);
    assert!(one.talks_to(&two));
}

#[test]
fn host_gw_needs_routes_alone() {
    let conf = r#"{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/48","Backend":{"Type":"host-gw"}}"#;
    let mut lab = Lab::new("hostgw", conf);
    let (one, two) = (near(&lab, 1), near(&lab, 2));
    let value = r#"{"PublicIP":"192.168.64.2","PublicIPv6":"fd64::2","BackendType":"host-gw"}"#;
    let (_, lease) = lab.etcd.lease_of("192.168.64.2").unwrap();
    assert_eq!(lease, value);
    assert!(one.node.subnet_env().contains("FLANNEL_MTU=1500\n"));
    let ipv6 = two.lease.split('&').nth(1).unwrap().replace('-', "/");
    let are_right = || {
        one.route_to(&two)
            .ends_with("via 192.168.64.2 dev eth0 proto 84")
            && one
                .node
                .ip("ip", &["-6", "route", "show", &ipv6])
                .contains("via fd64::2 dev eth0 proto 84 ")
    };
    eventually("there are routes", are_right);
    eventually("the other one has them too", || {
        !two.route_to(&one).is_empty()
    });
    assert!(one.talks_to(&two));

    // A node elsewhere, which no gateway leads to, holds nothing up.
    lab.etcd.put_leased(
        "subnets/10.5.250.0-24&fc00:0:0:250::-64",
        &value.replace("192.168.64.2", "192.168.65.9"),
    );
    eventually("the far node is told of", || {
        let text = "nodes that are not on this node's link can't be reached: 1 of them, the first: \
                    ip route replace 10.5.250.0/24 via 192.168.65.9 ";
        one.node.count_in_log(text) == 1
    });
    lab.etcd.stop();
    for family in ["-4", "-6"] {
        one.node
            .ip("ip", &[family, "route", "flush", "proto", "84"]);
        eventually("the routes are back", are_right);
    }
    one.node.ip("ip", &["link", "set", "eth0", "down"]);
    one.node.ip("ip", &["link", "set", "eth0", "up"]);
    one.node
        .ip("ip", &["address", "replace", "fd64::1/64", "dev", "eth0"]);
    eventually("the routes are back after a flap", are_right);
    assert!(one.talks_to(&two));
}

#[test]
fn host_gw_behind_nat_ends_the_start() {
    let conf = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"host-gw"}}"#;
    let lab = Lab::new("hostgwnat", conf);
    let mut node = lab.node(1);
    node.start(&["--public-ip=203.0.113.7"]);
    assert_eq!(node.wait().code(), Some(1));
    let text = "your PublicIP differs from interface IP, meaning that probably you're on a NAT, \
                which is not supported by host-gw backend";
    assert_eq!(node.count_in_log(text), 1, "{}", node.log());
}

#[test]
fn alloc_leases_a_subnet_and_leaves_the_kernel_alone() {
    let mut lab = Lab::new(
        "alloc",
        r#"{"Network":"10.5.0.0/16","Backend":{"Type":"host-gw"}}"#,
    );
    let (mut one, two) = (near(&lab, 1), near(&lab, 2));
    eventually("there is a route", || !one.route_to(&two).is_empty());
    one.node.stop(Signal::SIGTERM);
    lab.etcd.put(
        "config",
        r#"{"Network":"10.5.0.0/16","Backend":{"Type":"alloc"}}"#,
    );
    one.node.start_ready(&[]);
    let (lease, value) = lab.etcd.lease_of("192.168.64.1").unwrap();
    assert_eq!(value, r#"{"PublicIP":"192.168.64.1","PublicIPv6":null}"#);
    assert_eq!(lease, one.lease);
    assert!(one.node.subnet_env().contains("FLANNEL_MTU=1500\n"));
    eventually("the route of before is gone", || {
        one.route_to(&two).is_empty()
    });
    let links = one.node.ip("ip", &["-o", "link", "show"]);
    assert!(!links.contains("flannel"), "{links}");
    lab.etcd.stop();
}

#[test]
fn nodes_can_have_ipv6_alone() {
    let conf = r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fc00::/48","Backend":{"Type":"vxlan"}}"#;
    let lab = Lab::new("ipv6", conf);
    let mut nodes = [lab.node(1), lab.node(2)];
    for node in &mut nodes {
        node.ip("ip", &["-4", "address", "flush", "dev", "eth0"]);
        let default = ["-6", "route", "add", "default", "via", "fd64::fe"];
        node.ip("ip", &default);
        node.start_ready(&["--etcd-endpoints=http://[fd64::fe]:2379"]);
    }
    let [one, two] = &nodes;
    wait_for_peers(&[one, two], Family::V6, "flannel-v6.1");
    assert!(one.reaches(two, "flannel-v6.1") && two.reaches(one, "flannel-v6.1"));
    let (lease, value) = lab.etcd.lease_of("\"fd64::1\"").unwrap();
    assert!(
        lease.starts_with("fc00:") && lease.ends_with("::-64"),
        "{lease}"
    );
    let start = r#"{"PublicIP":"0.0.0.0","PublicIPv6":"fd64::1","BackendType":"vxlan","BackendV6Data":{"VNI":1,"#;
    assert!(value.starts_with(start), "{value}");
    let subnet = lease.replace("::-64", "::1/64");
    assert_eq!(
        one.subnet_env(),
        format!(
            "FLANNEL_IPV6_NETWORK=fc00::/48\nFLANNEL_IPV6_SUBNET={subnet}\nFLANNEL_MTU=1430\nFLANNEL_IPMASQ=false\n"
        )
    );
    let links = one.ip("ip", &["-o", "link", "show"]);
    assert!(!links.contains(" flannel.1"), "{links}");

    let [one, two] = &mut nodes;
    one.stop(Signal::SIGKILL);
    one.start_ready(&["--etcd-endpoints=http://[fd64::fe]:2379"]);
    assert_eq!(lab.etcd.lease_of("\"fd64::1\"").unwrap().0, lease);
    assert_eq!(lab.etcd.leases().len(), 2);
    assert!(one.reaches(two, "flannel-v6.1"));
}
