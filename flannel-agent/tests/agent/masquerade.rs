//! Rules for masquerading and forwarding: what they do to packets, and that they stay.

use std::{
    net::{IpAddr, UdpSocket},
    time::Duration,
};

use kernel::Family;
use nix::sys::{
    signal::Signal,
    socket::{setsockopt, sockopt},
};

use crate::{
    lab::{Lab, Node, TestNamespace, eventually},
    nodes::wait_for_peers,
};

const NFTABLES: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;
const IPTABLES: &str =
    r#"{"Network":"10.5.0.0/16","EnableNFTables":false,"Backend":{"Type":"vxlan"}}"#;
const DUAL: &str = r#"{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/48","Backend":{"Type":"vxlan"}}"#;

/// The address of a number in a node's subnet.
fn in_subnet(node: &Node, last: u8) -> String {
    let own = node.overlay_address("flannel.1").to_string();
    format!("{}.{last}", own.rsplit_once('.').unwrap().0)
}

/// The source that a receiver sees of a packet, perhaps a marked one.
fn seen_source(
    sender: &TestNamespace,
    from: &str,
    mark: u32,
    receiver: &TestNamespace,
    to: &str,
) -> IpAddr {
    let open = |at: &str| UdpSocket::bind((at, 0)).unwrap();
    let receiving = receiver.namespace.run(|| open(to)).unwrap();
    let sending = sender.namespace.run(|| open(from)).unwrap();
    setsockopt(&sending, sockopt::Mark, &mark).unwrap();
    receiving
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    sending
        .send_to(b"x", receiving.local_addr().unwrap())
        .unwrap();
    let (_, source) = receiving.recv_from(&mut [0; 1]).unwrap();
    source.ip()
}

fn rules(node: &Node, family: Family) -> String {
    let kind = if family == Family::V4 { "ip" } else { "ip6" };
    node.ip("nft", &["list", "ruleset", kind])
}

/// What packets of pods and nodes look like at their ends.
fn masquerades(test: &str, conf: &str, rule: &str) {
    let lab = Lab::new(test, conf);
    let mut nodes = [lab.node(1), lab.node(2)];
    for node in &mut nodes {
        node.start_ready(&["--ip-masq"]);
    }
    wait_for_peers(&nodes.each_ref(), Family::V4, "flannel.1");
    for node in &nodes {
        eventually("the rules stand", || rules(node, Family::V4).contains(rule));
        assert!(node.subnet_env().contains("FLANNEL_IPMASQ=true\n"));
    }
    let [one, two] = &nodes;
    let (pod1, pod2) = (in_subnet(one, 9), in_subnet(two, 9));
    let near = one.pod(&pod1, &in_subnet(one, 1));
    let far = two.pod(&pod2, &in_subnet(two, 1));
    let (node1, outside) = ("192.168.64.1", "192.168.64.254");
    let tunnel1 = one.overlay_address("flannel.1").to_string();
    for (sender, from, mark, receiver, to, seen) in [
        (&near, pod1.as_str(), 0, &lab.hub, outside, node1),
        (&near, &pod1, 0, &far, &pod2, &pod1),
        (&one.host, node1, 0, &far, &pod2, &tunnel1),
        (&one.host, node1, 0x4000, &far, &pod2, node1),
        // Other bits than that of the mark say nothing.
        (&one.host, node1, 0x14000, &far, &pod2, node1),
        (&one.host, node1, 0x1000, &far, &pod2, &tunnel1),
        (&one.host, node1, 0, &lab.hub, outside, node1),
    ] {
        let source = seen_source(sender, from, mark, receiver, to);
        assert_eq!(source.to_string(), seen, "{from} to {to}, mark {mark:#x}");
    }
}

#[test]
fn nftables_masquerades_what_it_should() {
    masquerades("masqnft", NFTABLES, "masquerade fully-random");
}

#[test]
fn iptables_masquerades_what_it_should() {
    masquerades("masqipt", IPTABLES, "FLANNEL-POSTRTG");
}

#[test]
fn rules_of_both_families_are_put_back() {
    let lab = Lab::new("masqheal", DUAL);
    let mut node = lab.node(1);
    node.start_ready(&["--ip-masq", "--ip-masq-fully-random-disable"]);
    let has = |family: Family, table: &str| {
        let rules = rules(&node, family);
        [table, "hook postrouting", " masquerade", "hook forward"]
            .iter()
            .all(|part| rules.contains(part))
    };
    let stands = || has(Family::V4, "flannel-ipv4") && has(Family::V6, "flannel-ipv6");
    // By the slow timer alone this would not come to its end.
    let faults = [
        &["delete", "table", "ip", "flannel-ipv4"][..],
        &["flush", "chain", "ip6", "flannel-ipv6", "postrtg"],
        &["flush", "ruleset"],
    ];
    let mut faults = faults.iter().cycle().take(24);
    eventually("every fault is repaired", || {
        if !stands() {
            return false;
        }
        let Some(arguments) = faults.next() else {
            return true;
        };
        node.ip("nft", arguments);
        false
    });
    assert!(!rules(&node, Family::V4).contains("random"));
}

#[test]
fn iptables_is_put_back_and_goes_when_nftables_takes_over() {
    let lab = Lab::new("masqswitch", IPTABLES);
    let mut node = lab.node(1);
    let start = |node: &mut Node| node.start_ready(&["--ip-masq", "--iptables-resync=1"]);
    start(&mut node);
    let saved = |node: &Node| node.ip("iptables-nft-save", &[]);
    let stands = |node: &Node| {
        let saved = saved(node);
        [
            "-A POSTROUTING -m comment --comment \"flanneld masq\" -j FLANNEL-POSTRTG",
            "-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 ",
            "-A FORWARD -m comment --comment \"flanneld forward\" -j FLANNEL-FWD",
            "-A FLANNEL-FWD -s 10.5.0.0/16 ",
        ]
        .iter()
        .all(|rule| saved.contains(rule))
    };
    eventually("the rules stand", || stands(&node));
    node.ip("iptables-nft", &["-t", "nat", "-F"]);
    eventually("the rules stand again", || stands(&node));
    let changes = node.count_in_log("changed in iptables");
    node.stop(Signal::SIGTERM);
    start(&mut node);
    lab.etcd.put("config", NFTABLES);
    node.stop(Signal::SIGTERM);
    start(&mut node);
    eventually("only nftables is used", || {
        !saved(&node).contains("FLANNEL") && rules(&node, Family::V4).contains("flannel-ipv4")
    });
    // Those of the first start, the repair and the removal; none by the restart.
    assert_eq!(node.count_in_log("changed in iptables"), changes + 2);
    lab.etcd.put("config", IPTABLES);
    node.stop(Signal::SIGTERM);
    start(&mut node);
    eventually("only iptables is used", || {
        stands(&node) && !rules(&node, Family::V4).contains("flannel-ipv4")
    });
}
