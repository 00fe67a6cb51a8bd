//! The whole program on several nodes.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use kernel::Family;
use nix::sys::signal::Signal;

use crate::{
    lab::{Lab, Node, eventually, name},
    nodes::wait_for_peers,
};

const CONF: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;
const DUAL: &str = r#"{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/48","Backend":{"Type":"vxlan"}}"#;

/// Nodes with agents that know each other.
fn started<const N: usize>(lab: &Lab, conf_device: &str) -> [Node; N] {
    let mut nodes = std::array::from_fn(|index| lab.node(index as u8 + 1));
    for node in &mut nodes {
        node.start_ready(&[]);
    }
    wait_for_peers(&nodes.each_ref(), Family::V4, conf_device);
    nodes
}

/// The value of another node's lease.
fn value(node: u8, mac: &str) -> String {
    format!(
        r#"{{"PublicIP":"192.168.64.{node}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"{mac}"}}}}"#
    )
}

/// The lease of a node as `(subnet, MAC)`: `10.5.34.0` and what stands in its value.
fn lease(lab: &Lab, node: &Node) -> (String, String) {
    let (name, value) = lab
        .etcd
        .lease_of(&format!("\"{}\"", node.underlay()))
        .unwrap();
    let mac = value.split("VtepMAC\":\"").nth(1).unwrap();
    (
        name.split('-').next().unwrap().to_owned(),
        mac[..17].to_owned(),
    )
}

fn lines(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().map(str::trim).collect();
    lines.sort_unstable();
    lines
}

/// What `bridge fdb` shows of tunnel endpoints, without what it shows only for some of them.
fn fdb(node: &Node) -> String {
    node.ip("bridge", &["fdb", "show", "dev", "flannel.1"])
}

pub fn http(node: &Node, path: &str) -> String {
    let get = || {
        let mut stream = TcpStream::connect("127.0.0.1:8471").unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    node.host.namespace.run(get).unwrap()
}

#[test]
fn the_kernel_has_what_flannel_puts_there() {
    let lab = Lab::new("kernel", CONF);
    let [one, two, three] = &started(&lab, "flannel.1");
    let ((own, own_mac), (subnet2, mac2), (subnet3, mac3)) =
        (lease(&lab, one), lease(&lab, two), lease(&lab, three));
    let link = one.ip("ip", &["-d", "link", "show", "flannel.1"]);
    for part in [
        " mtu 1450 ",
        "link/ether ",
        &own_mac,
        "vxlan id 1 local 192.168.64.1 dev eth0 ",
        " dstport 8472 nolearning ",
    ] {
        assert!(link.contains(part), "no {part} in {link}");
    }
    let address = one.ip("ip", &["-4", "-o", "address", "show", "flannel.1"]);
    assert!(
        address.contains(&format!("inet {own}/32 scope global flannel.1")),
        "{address}"
    );
    assert_eq!(
        lines(&one.ip("ip", &["route", "show", "dev", "flannel.1"])),
        lines(&format!(
            "{subnet2}/24 via {subnet2} proto 84 onlink\n{subnet3}/24 via {subnet3} proto 84 onlink"
        ))
    );
    assert_eq!(
        lines(&one.ip("ip", &["-4", "neigh", "show", "dev", "flannel.1"])),
        lines(&format!(
            "{subnet2} lladdr {mac2} PERMANENT\n{subnet3} lladdr {mac3} PERMANENT"
        ))
    );
    assert_eq!(
        lines(&fdb(one)),
        lines(&format!(
            "{mac2} dst 192.168.64.2 self permanent\n{mac3} dst 192.168.64.3 self permanent"
        ))
    );
    assert_eq!(
        one.ip("sysctl", &["-n", "net.ipv6.conf.flannel/1.accept_ra"])
            .trim(),
        "0"
    );
    assert_eq!(
        one.subnet_env(),
        format!(
            "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET={}1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n",
            own.strip_suffix('0').unwrap()
        )
    );
}

#[test]
fn nodes_talk_and_a_restart_changes_nothing() {
    let lab = Lab::new("restart", CONF);
    let mut nodes: [Node; 2] = started(&lab, "flannel.1");
    let before = lease(&lab, &nodes[0]);
    let [one, two] = &nodes;
    assert!(one.reaches(two, "flannel.1") && two.reaches(one, "flannel.1"));

    nodes[0].stop(Signal::SIGKILL);
    let [one, two] = &nodes;
    assert!(one.reaches(two, "flannel.1") && two.reaches(one, "flannel.1"));
    let reconciles = one.count_in_log("reconciled: ");
    nodes[0].start_ready(&[]);
    let [one, two] = &nodes;
    assert_eq!(lease(&lab, one), before);
    assert!(one.reaches(two, "flannel.1"));
    assert_eq!(
        one.count_in_log("reconciled: "),
        reconciles,
        "{}",
        one.log()
    );

    assert_eq!(nodes[0].stop(Signal::SIGTERM).code(), Some(0));
    let [one, two] = &nodes;
    assert!(one.reaches(two, "flannel.1") && two.reaches(one, "flannel.1"));
    assert_eq!(lease(&lab, one), before);
}

#[test]
fn the_same_comes_back_after_everything_was_forgotten() {
    let lab = Lab::new("forgotten", CONF);
    let mut node = lab.node(1);
    node.start_ready(&[]);
    let before = lease(&lab, &node);
    node.stop(Signal::SIGKILL);
    lab.etcd.delete(&format!("subnets/{}-24", before.0));
    std::fs::remove_file(node.subnet_file()).unwrap();
    node.ip("ip", &["link", "delete", "flannel.1"]);
    node.start_ready(&[]);
    assert_eq!(lease(&lab, &node), before);
}

#[test]
fn what_vanished_while_the_agent_was_down_is_removed_and_nothing_else() {
    let lab = Lab::new("stale", CONF);
    let mut nodes: [Node; 3] = started(&lab, "flannel.1");
    let (gone, gone_mac) = lease(&lab, &nodes[2]);
    nodes[0].stop(Signal::SIGKILL);
    nodes[2].stop(Signal::SIGKILL);
    lab.etcd.delete(&format!("subnets/{gone}-24"));
    let one = &nodes[0];
    one.ip(
        "ip",
        &["route", "add", "198.51.100.0/24", "via", "192.168.64.254"],
    );
    one.ip(
        "ip",
        &["route", "add", "203.0.113.0/24", "dev", "flannel.1"],
    );
    nodes[0].start_ready(&[]);
    let one = &nodes[0];
    let routes = one.ip("ip", &["route", "show"]);
    assert!(
        routes.contains("198.51.100.0/24") && routes.contains("203.0.113.0/24"),
        "{routes}"
    );
    assert!(!routes.contains(&gone), "{routes}");
    assert!(
        !one.ip("ip", &["neigh", "show", "dev", "flannel.1"])
            .contains(&gone)
    );
    assert!(!fdb(one).contains(&gone_mac));
    assert!(one.reaches(&nodes[1], "flannel.1"));
}

#[test]
fn a_device_that_does_not_fit_is_made_again() {
    let lab = Lab::new("misfit", CONF);
    let mut node = lab.node(1);
    for link in [
        "link add flannel.1 type vxlan id 1 dstport 4789 local 192.168.64.1 dev eth0 nolearning",
        "link add flannel.1 type bridge",
    ] {
        node.ip("ip", &link.split(' ').collect::<Vec<_>>());
        node.start_ready(&[]);
        let made = node.ip("ip", &["-d", "link", "show", "flannel.1"]);
        assert!(
            made.contains("vxlan id 1 ") && made.contains(" dstport 8472 "),
            "{made}"
        );
        node.stop(Signal::SIGKILL);
        node.ip("ip", &["link", "delete", "flannel.1"]);
    }
}

#[test]
fn a_device_of_flannel_is_kept_with_its_mac() {
    let lab = Lab::new("adopted", CONF);
    let mut node = lab.node(1);
    let link = "link add flannel.1 address 0e:00:00:00:00:77 mtu 1400 type vxlan id 1 dstport 8472 local 192.168.64.1 dev eth0 nolearning";
    node.ip("ip", &link.split(' ').collect::<Vec<_>>());
    let index = crate::lab::index(&mut node.host.kernel(), "flannel.1");
    node.start_ready(&[]);
    assert_eq!(lease(&lab, &node).1, "0e:00:00:00:00:77");
    assert_eq!(
        crate::lab::index(&mut node.host.kernel(), "flannel.1"),
        index
    );
    assert!(
        node.ip("ip", &["link", "show", "flannel.1"])
            .contains(" mtu 1450 ")
    );
}

#[test]
fn a_deleted_device_comes_back_with_its_mac_and_its_entries() {
    let lab = Lab::new("heal", CONF);
    let [one, two] = &started(&lab, "flannel.1");
    let before = lease(&lab, one);
    one.ip("ip", &["link", "delete", "flannel.1"]);
    eventually("the device is back", || {
        one.host
            .kernel()
            .link_by_name(&"flannel.1".parse().unwrap())
            .unwrap()
            .is_some()
    });
    wait_for_peers(&[one, two], Family::V4, "flannel.1");
    assert!(
        one.ip("ip", &["link", "show", "flannel.1"])
            .contains(&before.1)
    );
    assert!(one.reaches(two, "flannel.1") && two.reaches(one, "flannel.1"));
    assert_eq!(lease(&lab, one), before);
}

#[test]
fn peers_come_change_and_go() {
    let lab = Lab::new("peers", CONF);
    let [one] = &started(&lab, "flannel.1");
    for mac in ["0e:00:00:00:00:08", "0e:00:00:00:00:09"] {
        lab.etcd.put_leased("subnets/10.5.250.0-24", &value(9, mac));
        let expected = format!("{mac} dst 192.168.64.9 self permanent");
        eventually("the forwarding entry is this one alone", || {
            fdb(one).trim() == expected
        });
        let neighbours = one.ip("ip", &["-4", "neigh", "show", "dev", "flannel.1"]);
        assert_eq!(
            neighbours.trim(),
            format!("10.5.250.0 lladdr {mac} PERMANENT")
        );
    }
    lab.etcd.delete("subnets/10.5.250.0-24");
    eventually("the peer is gone", || fdb(one).is_empty());
    assert_eq!(one.ip("ip", &["route", "show", "dev", "flannel.1"]), "");
}

#[test]
fn a_bad_lease_is_skipped_with_one_warning() {
    let lab = Lab::new("badlease", CONF);
    lab.etcd.put_leased("subnets/10.5.250.0-24", "junk");
    lab.etcd
        .put_leased("subnets/10.5.251.0-40", r#"{"PublicIP":"192.168.64.8"}"#);
    lab.etcd
        .put_leased("subnets-old/10.5.9.0-24", &value(9, "0e:00:00:00:00:09"));
    let [one, two] = &started(&lab, "flannel.1");
    assert!(one.reaches(two, "flannel.1"));
    for name in ["10.5.250.0-24", "10.5.251.0-40"] {
        let warning = format!("/coreos.com/network/subnets/{name} in etcd is ignored");
        assert_eq!(one.count_in_log(&warning), 1, "{}", one.log());
    }
    assert!(!one.log().contains("10.5.9.0"), "{}", one.log());
}

#[test]
fn a_deleted_lease_is_taken_again() {
    let lab = Lab::new("deleted", CONF);
    let [one, two] = &started(&lab, "flannel.1");
    let before = lease(&lab, one);
    lab.etcd.delete(&format!("subnets/{}-24", before.0));
    eventually("the lease is back", || lab.etcd.leases().len() == 2);
    assert_eq!(lease(&lab, one), before);
    wait_for_peers(&[one, two], Family::V4, "flannel.1");
    assert!(one.log().contains("is gone from etcd"), "{}", one.log());
    assert!(two.reaches(one, "flannel.1"));
}

#[test]
fn a_lease_that_another_node_took_is_left_to_it() {
    let lab = Lab::new("taken", CONF);
    let [one, two] = &started(&lab, "flannel.1");
    let (subnet, _) = lease(&lab, one);
    let taken = value(9, "0e:00:00:00:00:09");
    lab.etcd.put_leased(&format!("subnets/{subnet}-24"), &taken);
    eventually("the node has another lease", || {
        lab.etcd
            .lease_of("\"192.168.64.1\"")
            .is_some_and(|(name, _)| !name.starts_with(&subnet))
    });
    let (moved, _) = lease(&lab, one);
    let leases = lab.etcd.leases();
    let others = leases
        .iter()
        .find(|kv| name(kv) == format!("{subnet}-24"))
        .unwrap();
    assert_eq!(others.value_str().unwrap(), taken);
    eventually("subnet.env names the new subnet", || {
        one.subnet_env().contains(&format!(
            "FLANNEL_SUBNET={}1/24",
            moved.strip_suffix('0').unwrap()
        ))
    });
    eventually("the device has the new address", || {
        let address = one.ip("ip", &["-4", "-o", "address", "show", "flannel.1"]);
        address.contains(&format!("inet {moved}/32"))
            && !address.contains(&format!("inet {subnet}/32"))
    });
    eventually("the nodes reach each other again", || {
        two.ip("ip", &["route", "show", "dev", "flannel.1"])
            .contains(&moved)
    });
    assert!(two.reaches(one, "flannel.1"));
    assert!(
        one.log().contains("now belongs to another node"),
        "{}",
        one.log()
    );
}

#[test]
fn a_lease_made_a_reservation_stays_one() {
    let lab = Lab::new("converted", CONF);
    let [one] = &started(&lab, "flannel.1");
    let (subnet, _) = lease(&lab, one);
    let key = format!("subnets/{subnet}-24");
    let (_, value) = lab.etcd.lease_of("192.168.64.1").unwrap();
    // What the command in flannel's documentation leaves behind.
    lab.etcd
        .put(&key, &format!("/coreos.com/network/{key}\n{value}\n"));
    eventually("the value is repaired", || {
        lab.etcd
            .lease_of("192.168.64.1")
            .is_some_and(|(_, it)| it == value)
    });
    let leases = lab.etcd.leases();
    assert_eq!((leases.len(), leases[0].lease()), (1, 0));
}

#[test]
fn the_overlay_outlasts_etcd() {
    let mut lab = Lab::new("outage", CONF);
    let nodes: [Node; 2] = started(&lab, "flannel.1");
    let [one, two] = &nodes;
    lab.etcd.stop();
    eventually("the agent says that etcd is away", || {
        one.log().contains("; trying again")
    });
    assert!(one.reaches(two, "flannel.1"));
    lab.etcd.run();
    eventually("the leases are followed again", || {
        one.log().contains("followed again")
    });
    lab.etcd
        .put_leased("subnets/10.5.250.0-24", &value(9, "0e:00:00:00:00:09"));
    eventually("a new peer is known", || {
        fdb(one).contains("0e:00:00:00:00:09")
    });
    assert!(one.reaches(two, "flannel.1"));
}

#[test]
fn both_families_work_side_by_side() {
    let lab = Lab::new("dual", DUAL);
    let nodes: [Node; 2] = started(&lab, "flannel.1");
    let [one, two] = &nodes;
    wait_for_peers(&[one, two], Family::V6, "flannel-v6.1");
    assert!(
        one.reaches(two, "flannel.1")
            && one.reaches(two, "flannel-v6.1")
            && two.reaches(one, "flannel-v6.1")
    );
    let env = one.subnet_env();
    assert!(env.contains("FLANNEL_IPV6_NETWORK=fc00::/48\n"), "{env}");
    assert!(env.contains("FLANNEL_MTU=1430\n"), "{env}");
    let reconciles = one.count_in_log("reconciled: ");
    let mut nodes = nodes;
    nodes[0].stop(Signal::SIGKILL);
    nodes[0].start_ready(&[]);
    assert_eq!(
        nodes[0].count_in_log("reconciled: "),
        reconciles,
        "{}",
        nodes[0].log()
    );
}

#[test]
fn a_public_address_behind_nat_is_only_told_to_others() {
    let lab = Lab::new("nat", CONF);
    let mut node = lab.node(1);
    node.start_ready(&["--public-ip=203.0.113.7"]);
    assert!(lab.etcd.lease_of(r#""PublicIP":"203.0.113.7""#).is_some());
    let link = node.ip("ip", &["-d", "link", "show", "flannel.1"]);
    assert!(link.contains(" local 192.168.64.1 "), "{link}");
}

#[test]
fn health_is_served() {
    let lab = Lab::new("health", CONF);
    lab.etcd.delete("config");
    let mut node = lab.node(1);
    node.start(&["-healthz-port", "8471", "-healthz-ip=127.0.0.1"]);
    eventually("it listens", || {
        node.host
            .namespace
            .run(|| TcpStream::connect("127.0.0.1:8471").is_ok())
            .unwrap()
    });
    assert!(http(&node, "/healthz").ends_with("flanneld is running"));
    let answer = http(&node, "/readyz");
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.ends_with("flanneld is not ready yet"),
        "{answer}"
    );
    lab.etcd.put("config", CONF);
    eventually("it is ready", || {
        http(&node, "/readyz").starts_with("HTTP/1.1 200")
    });
    assert!(http(&node, "/readyz").ends_with("flanneld is ready"));
}
