//! `--cleanup`: the node is as it was before the agent, and nothing of others is touched.

use std::process::Output;

use kernel::Family;
use nix::sys::signal::Signal;

use crate::{
    lab::{Lab, Node, agent_command, eventually},
    nodes::wait_for_peers,
};

const DUAL: &str = r#"{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/48","Backend":{"Type":"vxlan"}}"#;
const IPTABLES: &str =
    r#"{"Network":"10.5.0.0/16","EnableNFTables":false,"Backend":{"Type":"host-gw"}}"#;

/// What others have in a node, much like what the agent has.
const OTHERS: [&str; 8] = [
    "ip link add flannel.9 type vxlan id 9 dstport 4789 local 192.168.64.1 dev eth0",
    "ip address add 172.20.0.1/24 dev flannel.9",
    "ip link set flannel.9 up",
    "ip link add wire0 type bridge",
    "ip route add 10.5.250.0/24 via 192.168.64.7 dev eth0",
    "ip route add 10.6.0.0/16 via 192.168.64.7 dev eth0 proto static",
    "nft add table ip flannel-other",
    "nft add chain ip flannel-other forward { type filter hook forward priority 5; }",
];

fn run(node: &Node, command: &str) {
    let mut words = command.split_whitespace();
    let program = words.next().unwrap();
    node.ip(program, &words.collect::<Vec<_>>());
}

/// All that a node has: links, addresses, routes, neighbours, rules.
fn everything(node: &Node) -> Vec<String> {
    let mut all = Vec::new();
    for command in [
        &["ip", "-o", "link"][..],
        &["ip", "-o", "address"],
        &["ip", "-4", "route", "show", "table", "all"],
        &["ip", "-6", "route", "show", "table", "all"],
        &["ip", "neigh", "show", "nud", "permanent"],
        &["nft", "list", "ruleset"],
    ] {
        all.extend(
            node.ip(command[0], &command[1..])
                .lines()
                .map(str::to_owned),
        );
    }
    all
}

fn clean_up(node: &Node, arguments: &[&str]) -> Output {
    let mut command = agent_command();
    command
        .arg("--cleanup")
        .arg("--subnet-file")
        .arg(node.subnet_file())
        .args(arguments)
        .env("WIREGUARD_KEY_FILE", node.directory.path().join("wgkey"));
    node.host
        .namespace
        .run(|| command.output().unwrap())
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Waits until addresses are what they will be: the kernel looks for others that have those of IPv6.
fn wait_for_settled(node: &Node) {
    eventually("no address is tentative", || {
        node.ip("ip", &["-o", "address", "show", "tentative"])
            .is_empty()
    });
}

#[test]
fn all_that_is_the_agents_goes_and_nothing_else() {
    let lab = Lab::new("cleanup", DUAL);
    let mut nodes = [lab.node(1), lab.node(2)];
    for command in OTHERS {
        run(&nodes[0], command);
    }
    wait_for_settled(&nodes[0]);
    let before = everything(&nodes[0]);
    for node in &mut nodes {
        node.start_ready(&["--ip-masq", "--ip-blackhole-route"]);
    }
    for (family, device) in [(Family::V4, "flannel.1"), (Family::V6, "flannel-v6.1")] {
        wait_for_peers(&nodes.each_ref(), family, device);
    }
    eventually("the rules stand", || {
        let rules = nodes[0].ip("nft", &["list", "ruleset"]);
        ["flannel-ipv4", "flannel-ipv6"]
            .iter()
            .all(|it| rules.contains(it))
    });
    let env = nodes[0].subnet_env();
    let gateway = env
        .lines()
        .find_map(|it| it.strip_prefix("FLANNEL_SUBNET="));
    run(&nodes[0], "ip link add cni0 type bridge");
    run(
        &nodes[0],
        &format!("ip address add {} dev cni0", gateway.unwrap()),
    );
    std::fs::write(nodes[0].directory.path().join("wgkey"), "secret").unwrap();

    let refused = clean_up(&nodes[0], &[]);
    assert_eq!(refused.status.code(), Some(1));
    let text = said(&refused);
    assert!(
        text.contains("an agent runs on this node") && text.contains("stop it first"),
        "{text}"
    );
    assert_eq!(nodes[0].subnet_env(), env);

    nodes[0].stop(Signal::SIGTERM);
    let [one, two] = &nodes;
    let output = clean_up(one, &[]);
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    for what in [
        "device flannel.1",
        "device flannel-v6.1",
        "device cni0",
        "route 10.5.",
        "subnet.env",
        "wgkey",
        "flannel-agent.sock",
        "/run",
    ] {
        assert!(text.contains(what), "{what}: {text}");
    }
    wait_for_settled(one);
    assert_eq!(everything(one), before);
    assert!(!one.subnet_file().parent().unwrap().exists());
    assert!(!one.directory.path().join("wgkey").exists());
    // The lease ends by itself, as with flanneld; others go on.
    assert_eq!(lab.etcd.leases().len(), 2);
    assert!(two.ip("ip", &["link"]).contains("flannel.1"));

    let again = clean_up(one, &[]);
    let text = said(&again);
    assert!(
        again.status.success() && !text.contains("removed"),
        "{text}"
    );
    assert!(text.contains("flannel.9 stays"), "{text}");
    assert_eq!(everything(one), before);
}

#[test]
fn a_bridge_with_pods_stays_and_rules_of_iptables_go() {
    let lab = Lab::new("cleanupipt", IPTABLES);
    let mut nodes = [lab.node(1), lab.node(2)];
    for node in &mut nodes {
        node.start_ready(&["--ip-masq"]);
    }
    let [one, two] = &mut nodes;
    eventually("rules and route stand", || {
        one.ip("iptables-nft-save", &[]).contains("-j FLANNEL-FWD")
            && one
                .ip("ip", &["route"])
                .contains("via 192.168.64.2 dev eth0 proto 84")
    });
    let env = one.subnet_env();
    let gateway = env
        .lines()
        .find_map(|it| it.strip_prefix("FLANNEL_SUBNET="));
    for command in [
        "ip link add cni0 type bridge",
        &format!("ip address add {} dev cni0", gateway.unwrap()),
        "ip link add pod0 type veth peer name pod1",
        "ip link set pod0 master cni0",
    ] {
        run(one, command);
    }
    one.stop(Signal::SIGTERM);
    let output = clean_up(one, &["--v=4"]);
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains("cni0 stays: 1 pods are on it; once they are gone: ip link delete cni0"),
        "{text}"
    );
    assert!(one.ip("ip", &["link"]).contains("cni0"));
    let saved = one.ip("iptables-nft-save", &[]);
    assert!(!saved.contains("FLANNEL"), "{saved}");
    assert!(!one.ip("ip", &["route"]).contains("proto 84"));
    two.stop(Signal::SIGTERM);
}
