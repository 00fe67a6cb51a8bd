//! The network configuration is changed while agents run.

use crate::{
    backends::near,
    lab::{Lab, Node, eventually, index},
};

fn mtu(node: &Node) -> u32 {
    let mut kernel = node.host.kernel();
    let device = kernel.link_by_name(&"flannel.1".parse().unwrap()).unwrap();
    device.map_or(0, |device| device.mtu)
}

fn conf(keys: &str, backend: &str) -> String {
    format!(r#"{{"Network":"10.5.0.0/16"{keys},"Backend":{{"Type":"vxlan"{backend}}}}}"#)
}

#[test]
fn what_can_be_changed_is_and_the_rest_waits() {
    let lab = Lab::new("reconf", &conf("", ""));
    let (one, two) = (near(&lab, 1), near(&lab, 2));
    let tunnelled = || one.route_to(&two).contains(" dev flannel.1 ");
    eventually("the nodes know each other", tunnelled);
    let before = lab.etcd.leases().len();
    let device = index(&mut one.node.host.kernel(), "flannel.1");
    let put = |keys: &str, backend: &str| lab.etcd.put("config", &conf(keys, backend));

    put("", r#","MTU":1400"#);
    eventually("the MTU is the new one", || {
        mtu(&one.node) == 1350 && one.node.subnet_env().contains("FLANNEL_MTU=1350\n")
    });
    put("", r#","MTU":1400,"DirectRouting":true"#);
    eventually("the route is direct", || {
        one.route_to(&two).contains(" dev eth0 ") && two.route_to(&one).contains(" dev eth0 ")
    });
    assert!(one.talks_to(&two));

    lab.etcd.put("config", "{");
    let rubbish = "/coreos.com/network/config in etcd was changed: not a network configuration";
    eventually("rubbish is told of", || one.node.count_in_log(rubbish) == 1);
    put("", r#","VNI":7,"MTU":1500"#);
    let waits =
        "/coreos.com/network/config in etcd was changed in Backend.VNI, which takes effect when";
    eventually("what can be changed is, and the rest is told of", || {
        one.node.count_in_log(waits) == 1 && mtu(&one.node) == 1450 && tunnelled()
    });
    lab.etcd.delete("config");
    eventually("its loss is told of", || {
        one.node.count_in_log("config is gone from etcd; going on") == 1
    });
    put("", "");
    put(r#","EnableNFTables":false"#, "");
    eventually("the rules are those of iptables", || {
        let ours = one.node.ip("nft", &["list", "tables"]);
        !ours.contains("flannel-ipv4")
            && one
                .node
                .ip("iptables-save", &["-t", "filter"])
                .contains("FLANNEL-FWD")
    });
    assert!(one.talks_to(&two));
    assert_eq!(lab.etcd.leases().len(), before);
    assert_eq!(index(&mut one.node.host.kernel(), "flannel.1"), device);
    assert_eq!(one.node.count_in_log(rubbish), 1);
}

#[test]
fn a_full_network_can_be_made_larger() {
    let bounds = |max: &str| {
        conf(
            &format!(r#","SubnetMin":"10.5.1.0","SubnetMax":"10.5.{max}.0""#),
            "",
        )
    };
    let lab = Lab::new("larger", &bounds("1"));
    let _one = near(&lab, 1);
    let mut two = lab.node(2);
    two.start(&[]);
    eventually("the network is full", || {
        two.count_in_log("all 1 IPv4 subnets of 10.5.0.0/16 are leased") == 1
    });
    lab.etcd.put("config", &bounds("2"));
    two.wait_until_ready();
    assert_eq!(lab.etcd.lease_of("192.168.64.2").unwrap().0, "10.5.2.0-24");
}
