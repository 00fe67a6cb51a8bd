//! etcd out of reach for long, restored from an older copy, emptied: pods don't notice.

use kernel::Family;
use nix::sys::signal::Signal;

use crate::{
    history::History,
    lab::{Lab, Node, eventually},
    nodes::wait_for_peers,
    ping::{Ping, announced},
};

const CONF: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;
const UNREACHED: &str = "trying again, what stands in the kernel stays";

fn started<const N: usize>(lab: &Lab) -> [Node; N] {
    let mut nodes = std::array::from_fn(|index| lab.node(index as u8 + 1));
    for node in &mut nodes {
        node.start_ready(&[]);
    }
    wait_for_peers(&nodes.each_ref(), Family::V4, "flannel.1");
    nodes
}

fn lease_of(lab: &Lab, node: &Node) -> Option<String> {
    let found = lab.etcd.lease_of(&format!("\"{}\"", node.underlay()));
    found.map(|(name, _)| name)
}

/// Waits until every node has what it announces, and all know each other.
fn converged(lab: &Lab, nodes: &[&Node]) {
    eventually("every node has its lease", || {
        nodes.iter().all(|node| {
            let announced = announced(node).unwrap().replace(".1/", ".0-");
            lease_of(lab, node) == Some(announced)
        })
    });
    wait_for_peers(nodes, Family::V4, "flannel.1");
}

/// `flannel.1` has lost nothing, and the log is one that can be read.
fn unnoticed(ping: &mut Ping, nodes: &[&Node]) {
    let summary = ping.end();
    assert!(summary.contains(" 0% packet loss"), "{summary}");
    for node in nodes {
        let lines = node.log().lines().count();
        assert!(lines < 40, "{}", node.log());
    }
}

#[test]
fn leases_that_end_while_etcd_is_out_of_reach_are_taken_again() {
    let mut lab = Lab::new("longoutage", CONF);
    let nodes: [Node; 3] = started(&lab);
    let [one, two, three] = &nodes;
    let all = [one, two, three];
    let before = all.map(|node| announced(node).unwrap());
    let mut ping = Ping::start(one, two);
    // Back, but only for this test: what happens now happens while the nodes are cut off.
    lab.etcd.stop();
    lab.ip(&["address", "delete", "192.168.64.254/24", "dev", "br0"]);
    lab.etcd.run();
    let names = all.map(|node| lease_of(&lab, node).unwrap());
    for name in &names {
        lab.etcd.revoke(&format!("subnets/{name}"));
    }
    assert_eq!(
        lab.etcd.below("").len(),
        1,
        "all but the configuration ended"
    );
    let taken = r#"{"PublicIP":"192.168.64.9","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0e:00:00:00:00:09"}}"#;
    lab.etcd.put_leased(&format!("subnets/{}", names[2]), taken);
    eventually("the nodes say that etcd is away", || {
        all.iter().all(|node| node.count_in_log(UNREACHED) > 0)
    });
    lab.ip(&["address", "add", "192.168.64.254/24", "dev", "br0"]);
    eventually("the third says that its lease is another's", || {
        three.count_in_log("now belongs to another node") == 1
    });
    eventually("all have leases", || lab.etcd.leases().len() == 4);
    eventually("the third has moved", || {
        announced(three).unwrap() != before[2]
    });
    assert_eq!([one, two].map(|it| announced(it).unwrap()), before[..2]);
    assert_eq!(lab.etcd.lease_of("192.168.64.9").unwrap().1, taken);
    eventually("all know all", || {
        let peers = |node: &Node| {
            node.ip("ip", &["route", "show", "dev", "flannel.1"])
                .lines()
                .count()
        };
        all.iter().all(|node| peers(node) == 3)
    });
    unnoticed(&mut ping, &all);
}

#[test]
fn a_store_that_forgot_a_node_learns_of_it_again() {
    let mut lab = Lab::new("restored", CONF);
    let [one, two]: [Node; 2] = started(&lab);
    let copy = tempfile::tempdir().unwrap();
    lab.etcd.stop();
    lab.etcd.copy_store(&copy.path().join("data"));
    lab.etcd.run();
    let mut three = lab.node(3);
    three.start_ready(&[]);
    let all = [&one, &two, &three];
    converged(&lab, &all);
    let before = all.map(announced);
    let mut follows = one.count_in_log("are followed again");
    let mut ping = Ping::start(&one, &three);
    for copy in [Some(copy.path().join("data")), None] {
        lab.etcd.stop();
        three.stop(Signal::SIGKILL);
        lab.etcd.replace_store(copy.as_deref());
        lab.etcd.run();
        lab.etcd.put("config", CONF);
        // The first node learns what etcd has forgotten before the third is there to tell it.
        eventually("the first node has its lease", || {
            let followed = one.count_in_log("are followed again") > follows;
            followed && lease_of(&lab, &one).is_some()
        });
        follows = one.count_in_log("are followed again");
        three.start_ready(&[]);
        let all = [&one, &two, &three];
        converged(&lab, &all);
        assert_eq!(all.map(announced), before);
    }
    unnoticed(&mut ping, &[&one, &two, &three]);
}

#[test]
fn history_that_is_compacted_is_not_needed() {
    let mut lab = Lab::new("compacted", CONF);
    let nodes: [Node; 2] = started(&lab);
    let [one, two] = &nodes;
    let history = History::record(&lab);
    let mut ping = Ping::start(one, two);
    lab.etcd.stop();
    lab.ip(&["address", "delete", "192.168.64.254/24", "dev", "br0"]);
    lab.etcd.run();
    let peer = |mac: &str| {
        format!(
            r#"{{"PublicIP":"192.168.64.9","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"{mac}"}}}}"#
        )
    };
    for mac in ["0e:00:00:00:00:08", "0e:00:00:00:00:09"] {
        lab.etcd.put_leased("subnets/10.5.250.0-24", &peer(mac));
    }
    lab.etcd.compact();
    lab.ip(&["address", "add", "192.168.64.254/24", "dev", "br0"]);
    eventually("both know the peer", || {
        nodes.iter().all(|node| {
            let fdb = node.ip("bridge", &["fdb", "show", "dev", "flannel.1"]);
            fdb.contains("0e:00:00:00:00:09 dst 192.168.64.9 ")
        })
    });
    unnoticed(&mut ping, &[one, two]);
    assert_eq!(
        history.end().taken_over(&Default::default()),
        Vec::<String>::new()
    );
}
