//! Which interface is used, and what that means on the node.

use kernel::Family;

use crate::{
    lab::{Lab, TestNamespace, eventually},
    nodes::wait_for_peers,
    start::run_in,
};

const CONF: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;

/// The address that is translated to that of node 1.
const PUBLIC: &str = "203.0.113.1";

fn run(namespace: &TestNamespace, program: &str, arguments: &[&str]) {
    let mut command = std::process::Command::new(program);
    let output = namespace
        .namespace
        .run(|| command.args(arguments).output().unwrap())
        .unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {output:?}"
    );
}

#[test]
fn a_pattern_chooses_by_address_before_name() {
    let lab = Lab::new("regex", CONF);
    let mut node = lab.node(1);
    node.ip("ip", &["link", "add", "eth9", "type", "bridge"]);
    node.ip("ip", &["addr", "add", "10.9.0.1/24", "dev", "eth9"]);
    node.start_ready(&[
        "--iface-regex=^wl",
        "-iface-regex",
        "eth9|^192\\.168\\.64\\.",
    ]);
    let log = node.log();
    assert!(
        log.contains("interface eth0, address 192.168.64.1,"),
        "{log}"
    );
}

#[test]
fn the_default_route_with_the_lowest_metric_counts() {
    let lab = Lab::new("metric", CONF);
    let mut node = lab.node(1);
    node.ip("ip", &["link", "add", "eth9", "up", "type", "bridge"]);
    node.ip("ip", &["addr", "add", "192.168.64.91/24", "dev", "eth9"]);
    node.ip("ip", &["route", "delete", "default"]);
    let default = |device: &'static str, metric: &'static str| {
        let way = ["via", "192.168.64.254", "dev", device, "onlink"];
        let route = ["route", "add", "default"].into_iter().chain(way);
        route.chain(["metric", metric]).collect::<Vec<_>>()
    };
    node.ip("ip", &default("eth9", "200"));
    node.ip("ip", &default("eth0", "100"));
    node.start_ready(&["--etcd-endpoints=http://192.168.64.254:2379"]);
    assert!(node.log().contains("interface eth0, address 192.168.64.1,"));
}

#[test]
fn default_routes_of_both_families_are_on_one_interface() {
    let lab = Lab::new(
        "dualdefault",
        r#"{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/48","Backend":{"Type":"vxlan"}}"#,
    );
    let node = lab.node(1);
    node.ip("ip", &["link", "add", "eth9", "up", "type", "bridge"]);
    node.ip(
        "ip",
        &["-6", "addr", "add", "fd09::1/64", "dev", "eth9", "nodad"],
    );
    node.ip(
        "ip",
        &[
            "-6", "route", "add", "default", "via", "fd09::fe", "dev", "eth9",
        ],
    );
    let (code, text) = run_in(&node.host, &["--etcd-endpoints=192.168.64.254:2379"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains(
            "v6 default route interface eth9 must be the same with v4 default route interface eth0"
        ),
        "{text}"
    );
}

#[test]
fn a_node_behind_nat_is_reached_by_its_public_address() {
    let lab = Lab::new("nat", CONF);
    let rules = format!(
        "table ip nat {{ chain prerouting {{ type nat hook prerouting priority dstnat; \
         ip daddr {PUBLIC} dnat to 192.168.64.1; }}; }}"
    );
    run(&lab.hub, "sysctl", &["-qw", "net.ipv4.ip_forward=1"]);
    run(
        &lab.hub,
        "sysctl",
        &["-qw", "net.ipv4.conf.br0.send_redirects=0"],
    );
    run(&lab.hub, "nft", &[&rules]);
    let [mut one, mut two] = [lab.node(1), lab.node(2)];
    one.start_ready(&["--public-ip", PUBLIC]);
    two.start_ready(&[]);
    wait_for_peers(&[&one, &two], Family::V4, "flannel.1");
    let (_, value) = lab.etcd.lease_of(PUBLIC).unwrap();
    assert!(
        value.starts_with(&format!("{{\"PublicIP\":\"{PUBLIC}\",")),
        "{value}"
    );
    let device = one.ip("ip", &["-d", "link", "show", "flannel.1"]);
    assert!(device.contains(" local 192.168.64.1 "), "{device}");
    let fdb = two.ip("bridge", &["fdb", "show", "dev", "flannel.1"]);
    assert!(fdb.contains(&format!("dst {PUBLIC} ")), "{fdb}");
    // By ICMP: between veth devices other packets have no checksums yet when they come to the translation.
    for (from, to) in [(&one, &two), (&two, &one)] {
        let to = to.overlay_address("flannel.1").to_string();
        from.ip("ping", &["-c1", "-W10", &to]);
    }
}

#[test]
fn a_blackhole_stands_behind_the_pods_route_while_it_is_asked_for() {
    let lab = Lab::new("blackhole", CONF);
    let mut node = lab.node(1);
    let blackholes = |node: &crate::lab::Node| {
        let routes = node.ip("ip", &["route", "show", "type", "blackhole"]);
        routes.trim().to_owned()
    };
    node.start_ready(&["--ip-blackhole-route"]);
    let (name, _) = lab.etcd.lease_of("192.168.64.1").unwrap();
    let subnet = name.replace('-', "/");
    let wanted = format!("blackhole {subnet} proto 84 metric 4294967295");
    eventually("the route stands", || blackholes(&node) == wanted);

    let first = subnet.replace("0/24", "1/24");
    node.ip("ip", &["link", "add", "cni0", "up", "type", "bridge"]);
    node.ip("ip", &["addr", "add", &first, "dev", "cni0"]);
    let route = node.ip("ip", &["route", "get", &subnet.replace("0/24", "7")]);
    assert!(route.contains(" dev cni0 "), "{route}");

    node.ip("ip", &["route", "flush", "type", "blackhole"]);
    eventually("it is put back", || blackholes(&node) == wanted);
    node.stop(nix::sys::signal::Signal::SIGTERM);
    node.start_ready(&[]);
    eventually("it goes", || blackholes(&node).is_empty());
}

#[test]
fn flags_without_effect_are_accepted_with_one_warning() {
    let lab = Lab::new("klog", CONF);
    let mut node = lab.node(1);
    node.start_ready(&["-vmodule=main=4", "-log_backtrace_at=main.go:1", "-v=4"]);
    assert_eq!(
        node.count_in_log("--vmodule, --log_backtrace_at has no effect"),
        1,
        "{}",
        node.log()
    );
}
