//! Many agents, few subnets, and agents that can hardly be told apart.

use std::collections::{BTreeMap, BTreeSet};

use nix::sys::signal::Signal;

use crate::{
    history::History,
    lab::{Lab, Node, eventually, name},
    ping::announced,
};

const CONF: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;
const THREE: &str = r#"{"Network":"10.5.0.0/22","SubnetLen":24,"Backend":{"Type":"vxlan"}}"#;

#[test]
fn forty_agents_start_at_once() {
    let lab = Lab::new("forty", CONF);
    let history = History::record(&lab);
    let mut nodes: Vec<_> = (1..=40).map(|number| lab.node(number)).collect();
    // All wait for the configuration, which sets them off together.
    lab.etcd.delete("config");
    for node in &mut nodes {
        node.start(&[]);
    }
    eventually("all are there", || {
        let waits = |node: &Node| node.count_in_log("there is no network configuration") == 1;
        nodes.iter().all(waits)
    });
    lab.etcd.put("config", CONF);
    for node in &nodes {
        node.wait_until_ready();
    }
    let subnets: BTreeSet<_> = nodes.iter().map(|node| announced(node).unwrap()).collect();
    assert_eq!((subnets.len(), lab.etcd.leases().len()), (40, 40));
    for node in &mut nodes {
        assert!(node.is_running(), "{}", node.log());
    }
    assert_eq!(
        history.end().taken_over(&BTreeSet::new()),
        Vec::<String>::new()
    );
    // Nobody asked for the end of a lease.
    assert!(lab.etcd.calls("LeaseGrant") > 0);
    assert_eq!(lab.etcd.calls("LeaseTimeToLive"), 0);
}

#[test]
fn a_start_reads_all_leases_once() {
    let lab = Lab::new("readonce", CONF);
    let mut nodes = [lab.node(1), lab.node(2)];
    for node in &mut nodes {
        let before = lab.etcd.calls("Range");
        node.start_ready(&[]);
        // The configuration, and again where its watch begins; the leases; their owners.
        assert_eq!(lab.etcd.calls("Range") - before, 4);
    }
}

#[test]
fn a_longer_key_is_not_the_nodes_own() {
    let lab = Lab::new("longerkey", CONF);
    let mut node = lab.node(1);
    node.start_ready(&[]);
    let own = name(&lab.etcd.leases()[0]);
    let longer = format!("subnets/{own}&fd00::-64");
    let other = r#"{"PublicIP":"192.168.64.9","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0e:00:00:00:00:09"}}"#;
    lab.etcd.put_leased(&longer, other);
    let ignored = format!("lease {own}&fd00::-64 is ignored: it overlaps this node's lease");
    eventually("the agent knows of it", || node.count_in_log(&ignored) == 1);
    lab.etcd.delete(&longer);
    lab.etcd.put_leased("subnets/10.5.250.0-24", "junk");
    eventually("the agent knows of what came later", || {
        node.count_in_log("10.5.250.0-24 in etcd is ignored") == 1
    });
    assert!(node.is_running() && node.count_in_log("is gone from etcd") == 0);
}

#[test]
fn the_fourth_of_three_waits_until_a_subnet_is_free() {
    let lab = Lab::new("fourth", THREE);
    let mut nodes: Vec<_> = (1..=4).map(|number| lab.node(number)).collect();
    for node in &mut nodes {
        node.start(&[]);
    }
    let full = "all 3 IPv4 subnets of 10.5.0.0/22 are leased; waiting until one is free";
    eventually(
        "three have a subnet, and the fourth says that there is none",
        || {
            let ready = nodes
                .iter()
                .filter(|node| announced(node).is_some())
                .count();
            ready == 3 && nodes.iter().any(|node| node.count_in_log(full) == 1)
        },
    );
    let of = |node: &Node| lab.etcd.lease_of(&format!("\"{}\"", node.underlay()));
    let leaves = nodes.iter().position(|node| of(node).is_some()).unwrap();
    let (freed, _) = of(&nodes[leaves]).unwrap();
    nodes[leaves].stop(Signal::SIGTERM);
    lab.etcd.delete(&format!("subnets/{freed}"));
    let waits = nodes
        .iter()
        .position(|node| announced(node).is_none())
        .unwrap();
    nodes[waits].wait_until_ready();
    assert_eq!(of(&nodes[waits]).unwrap().0, freed);
    assert!(nodes[waits].is_running() && nodes[waits].count_in_log(full) == 1);
}

#[test]
fn agents_with_one_public_address_keep_what_is_theirs() {
    let lab = Lab::new("oneaddress", CONF);
    let history = History::record(&lab);
    let mut nodes = [lab.node(1), lab.node(2)];
    let before: Vec<_> = nodes
        .iter_mut()
        .map(|node| {
            node.start_ready(&["--public-ip=203.0.113.7"]);
            announced(node)
        })
        .collect();
    assert_ne!(before[0], before[1]);
    let loud = "has this node's public address, but another node";
    assert_eq!(nodes.each_ref().map(|node| node.count_in_log(loud)), [0, 1]);
    for node in &mut nodes {
        node.stop(Signal::SIGKILL);
        std::fs::remove_file(node.subnet_file()).unwrap();
    }
    let after: Vec<_> = nodes
        .iter_mut()
        .map(|node| {
            node.start_ready(&["--public-ip=203.0.113.7"]);
            announced(node)
        })
        .collect();
    assert_eq!(before, after);
    let writers: BTreeMap<_, BTreeSet<_>> = history.end().owners();
    assert!(writers.values().all(|macs| macs.len() == 1), "{writers:?}");
}

#[test]
fn a_node_keeps_its_subnet_when_all_but_the_machine_changed() {
    let lab = Lab::new("allnew", CONF);
    let mut node = lab.node(1);
    node.start_ready(&[]);
    let before = name(&lab.etcd.leases()[0]);
    node.stop(Signal::SIGKILL);
    std::fs::remove_file(node.subnet_file()).unwrap();
    node.ip("ip", &["link", "delete", "flannel.1"]);
    node.move_to("192.168.64.101/24");
    node.ip("ip", &["route", "add", "default", "via", "192.168.64.254"]);
    node.start_ready(&[]);
    let leases = lab.etcd.leases();
    assert_eq!((name(&leases[0]), leases.len()), (before, 1));
    assert!(
        leases[0]
            .value_str()
            .unwrap()
            .contains("\"192.168.64.101\"")
    );
}
