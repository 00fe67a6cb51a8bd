//! Leases that change one by one lead to what a look at all of them leads to.

use kernel::Family;
use nix::sys::signal::Signal;

use crate::{
    healing::state,
    lab::{Lab, Node, eventually},
    seeing::look,
};

const CONF: &str =
    r#"{"Network":"10.5.0.0/16","SubnetMax":"10.5.99.0","Backend":{"Type":"vxlan"}}"#;
const DIRECT: &str = r#"{"Network":"10.5.0.0/16","SubnetMax":"10.5.99.0","Backend":{"Type":"vxlan","DirectRouting":true}}"#;
const DEVICE: &str = "flannel.1";

fn value(address: &str, mac: u8) -> String {
    format!(
        r#"{{"PublicIP":"{address}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"0e:00:00:00:00:{mac:02x}"}}}}"#
    )
}

/// Writes leases, takes them away and writes them otherwise; those that stay are of nodes 101 to 105, and the last
/// that is written is that of node 107.
fn write(lab: &Lab, node: &Node) {
    let put = |name: &str, value: &str| {
        lab.etcd.put_leased(&format!("subnets/{name}"), value);
    };
    let delete = |name: &str| lab.etcd.delete(&format!("subnets/{name}"));
    for node in 101..=106 {
        let value = value(&format!("192.168.64.{node}"), node);
        put(&format!("10.5.{node}.0-24"), &value);
    }
    // Another address, another Ethernet address, one that two nodes have, one off the link.
    put("10.5.101.0-24", &value("192.168.64.151", 101));
    put("10.5.102.0-24", &value("192.168.64.102", 152));
    put("10.5.103.0-24", &value("192.168.64.103", 104));
    put("10.5.105.0-24", &value("172.16.0.5", 105));
    delete("10.5.106.0-24");
    delete("10.5.104.0-24");
    put("10.5.104.0-24", &value("192.168.64.104", 104));
    // One that is none for a while, and one whose subnet another has as well.
    put("10.5.102.0-24", "nonsense");
    put("10.5.102.0-24", &value("192.168.64.102", 152));
    put("10.5.103.0-24&fd00::-64", &value("192.168.64.107", 107));
    // Not before it was seen: what comes and goes between two looks never was.
    let notice = "is ignored: an earlier one";
    eventually("it is ignored", || node.log().contains(notice));
    delete("10.5.103.0-24&fd00::-64");
    put("10.5.107.0-24", &value("192.168.64.107", 107));
}

fn routes(node: &Node) -> usize {
    state(node, Family::V4, DEVICE).map_or(0, |it| it.routes.len())
}

#[test]
fn a_second_look_finds_nothing_to_do() {
    for conf in [CONF, DIRECT] {
        let lab = Lab::new("increments", conf);
        let mut node = lab.node(1);
        node.start_ready(&[]);
        write(&lab, &node);
        let expected =
            "10.5.101.0/24 10.5.102.0/24 10.5.103.0/24 10.5.104.0/24 10.5.105.0/24 10.5.107.0/24";
        let all = || {
            let standing = state(&node, Family::V4, DEVICE).unwrap();
            let destination = |it: &String| it.split(' ').next().unwrap_or_default().to_owned();
            let found: Vec<_> = standing.routes.iter().map(destination).collect();
            found.join(" ") == expected
        };
        eventually("all leases stand", all);
        // It answers between two looks: what stands now is all that the last of them has done.
        let (_, status) = look(&node, &["status"]);
        assert!(status.contains("10.5.107.0/24"), "{status}");
        let by_increments = state(&node, Family::V4, DEVICE);
        let before = node.count_in_log("reconciled: ");
        node.stop(Signal::SIGKILL);
        node.start_ready(&[]);
        assert_eq!(state(&node, Family::V4, DEVICE), by_increments, "{conf}");
        assert_eq!(node.count_in_log("reconciled: "), before, "{}", node.log());
    }
}

#[test]
fn a_route_of_another_program_is_left_to_it() {
    let lab = Lab::new("obstacle", CONF);
    let mut node = lab.node(1);
    node.start_ready(&[]);
    let obstacle = [
        "route",
        "add",
        "10.5.177.0/24",
        "dev",
        "eth0",
        "proto",
        "static",
    ];
    node.ip("ip", &obstacle);
    lab.etcd
        .put_leased("subnets/10.5.177.0-24", &value("192.168.64.77", 77));
    let notice = "is not this agent's and stays, though a lease has its destination";
    eventually("the conflict is told", || node.log().contains(notice));
    let standing = node.ip("ip", &["route", "show", "10.5.177.0/24"]);
    assert!(standing.contains("dev eth0 proto static"), "{standing}");
    node.ip("ip", &["route", "delete", "10.5.177.0/24"]);
    eventually("the route of ours", || routes(&node) == 1);
}

#[test]
fn a_systemd_that_hears_nothing_holds_nothing_up() {
    let mut lab = Lab::new("deaf", CONF);
    let mut node = lab.node(1);
    lab.etcd.stop();
    node.start(&[]);
    node.deafen_systemd();
    lab.etcd.run();
    eventually("the agent is ready", || node.log().contains("ready"));
    lab.etcd
        .put_leased("subnets/10.5.177.0-24", &value("192.168.64.77", 77));
    eventually("the other node's route", || routes(&node) == 1);
}
