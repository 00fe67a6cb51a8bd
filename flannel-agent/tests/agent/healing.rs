//! What is put back when it is lost in the kernel, while etcd is away.

use kernel::{Family, Mac, route::Neighbour};
use nix::sys::signal::Signal;

use crate::{
    lab::{Lab, Node, eventually, index},
    nodes::wait_for_peers,
};

const CONF: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;
const DUAL: &str = r#"{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/48","Backend":{"Type":"vxlan"}}"#;

/// What one command can do to a device and its entries.
pub const FAULTS: [(&str, &[&str]); 8] = [
    ("ip", &["link", "delete", "DEV"]),
    ("ip", &["link", "set", "DEV", "down"]),
    ("ip", &["route", "flush", "dev", "DEV"]),
    ("ip", &["-6", "route", "flush", "dev", "DEV", "proto", "84"]),
    ("ip", &["neigh", "flush", "dev", "DEV", "nud", "permanent"]),
    ("bridge", &["fdb", "flush", "dev", "DEV"]),
    ("ip", &["link", "set", "DEV", "mtu", "1300"]),
    ("ip", &["address", "flush", "dev", "DEV", "scope", "global"]),
];

/// What should be the same after every repair; `None` without a device.
#[derive(Debug, PartialEq, Eq)]
pub struct State {
    pub mac: Option<Mac>,
    pub mtu: u32,
    pub up: bool,
    pub addresses: Vec<String>,
    pub routes: Vec<String>,
    pub neighbours: Vec<String>,
    pub fdb: Vec<String>,
}

pub fn state(node: &Node, family: Family, device: &str) -> Option<State> {
    let mut kernel = node.host.kernel();
    let link = kernel.link_by_name(&device.parse().unwrap()).unwrap()?;
    let addresses = kernel.addresses(Some(link.index)).unwrap();
    let neighbours = kernel.neighbours(family, link.index).unwrap();
    let mut routes = kernel.routes(family).unwrap();
    routes.retain(|it| it.protocol == flannel_agent::plan::PROTOCOL);
    let dev = format!(" dev {} ", link.index);
    let is_permanent = |it: &&Neighbour| it.permanent;
    Some(State {
        mac: link.mac,
        mtu: link.mtu,
        up: link.up,
        addresses: sorted(addresses.iter().filter(|it| !it.link_local), |it| {
            it.address.to_string()
        }),
        routes: sorted(routes.iter(), |it| it.to_string().replace(&dev, " ")),
        neighbours: sorted(neighbours.iter().filter(is_permanent), |it| {
            format!("{} {}", it.address, it.mac.unwrap_or(Mac([0; 6])))
        }),
        fdb: sorted(kernel.fdb(link.index).unwrap().iter(), |it| {
            format!("{} {}", it.mac, it.destination)
        }),
    })
}

fn sorted<'a, T: 'a>(all: impl Iterator<Item = &'a T>, text: impl Fn(&T) -> String) -> Vec<String> {
    let mut all: Vec<_> = all.map(text).collect();
    all.sort();
    all
}

/// Two nodes that know each other, and the etcd away.
fn cut_off(lab: &mut Lab, family: Family, device: &str) -> [Node; 2] {
    let mut nodes = [lab.node(1), lab.node(2)];
    for node in &mut nodes {
        node.start_ready(&[]);
    }
    wait_for_peers(&nodes.each_ref(), family, device);
    lab.etcd.stop();
    nodes
}

/// All faults over and over, each as soon as the one before is repaired: by the slow timer alone this
/// would not come to its end.
fn repairs_everything(test: &str, family: Family, device: &str) {
    let mut lab = Lab::new(test, DUAL);
    let [one, two] = &cut_off(&mut lab, family, device);
    let right = state(one, family, device).unwrap();
    let mut faults = FAULTS.iter().cycle().take(3 * FAULTS.len());
    eventually("every fault is repaired", || {
        if state(one, family, device).as_ref() != Some(&right) {
            return false;
        }
        let Some((program, arguments)) = faults.next() else {
            return true;
        };
        let arguments: Vec<_> = arguments
            .iter()
            .map(|it| if *it == "DEV" { device } else { it })
            .collect();
        one.ip(program, &arguments);
        false
    });
    assert!(one.reaches(two, device) && two.reaches(one, device));
}

#[test]
fn everything_on_the_ipv4_device_is_put_back() {
    repairs_everything("heal4", Family::V4, "flannel.1");
}

#[test]
fn everything_on_the_ipv6_device_is_put_back() {
    repairs_everything("heal6", Family::V6, "flannel-v6.1");
}

#[test]
fn the_mtu_of_the_interface_is_followed() {
    let mut lab = Lab::new("mtu", CONF);
    let [one, two] = &cut_off(&mut lab, Family::V4, "flannel.1");
    for (mtu, left) in [("1400", 1350), ("1500", 1450)] {
        one.ip("ip", &["link", "set", "eth0", "mtu", mtu]);
        eventually("device and subnet.env have the new MTU", || {
            state(one, Family::V4, "flannel.1").is_some_and(|it| it.mtu == left)
                && one.subnet_env().contains(&format!("FLANNEL_MTU={left}\n"))
        });
    }
    assert!(one.reaches(two, "flannel.1"));
}

#[test]
fn a_flapping_interface_changes_nothing() {
    let mut lab = Lab::new("flap", CONF);
    let [one, two] = &cut_off(&mut lab, Family::V4, "flannel.1");
    let right = state(one, Family::V4, "flannel.1");
    one.ip("ip", &["link", "set", "eth0", "down"]);
    one.ip("ip", &["link", "set", "eth0", "up"]);
    eventually("all is as before", || {
        state(one, Family::V4, "flannel.1") == right
    });
    assert!(one.reaches(two, "flannel.1") && two.reaches(one, "flannel.1"));
}

#[test]
fn a_node_keeps_its_subnet_under_another_address() {
    let lab = Lab::new("readdress", CONF);
    let mut nodes = [lab.node(1), lab.node(2)];
    for node in &mut nodes {
        node.start_ready(&[]);
    }
    let [one, two] = &nodes;
    wait_for_peers(&[one, two], Family::V4, "flannel.1");
    let (subnet, before) = lab.etcd.lease_of("\"192.168.64.1\"").unwrap();
    one.move_to("192.168.64.101/24");
    eventually("the lease tells the new address", || {
        let moved = lab.etcd.lease_of("\"192.168.64.101\"");
        let value = before.replace("192.168.64.1\"", "192.168.64.101\"");
        moved == Some((subnet.clone(), value))
    });
    assert_eq!(lab.etcd.leases().len(), 2);
    let link = one.ip("ip", &["-d", "link", "show", "flannel.1"]);
    assert!(link.contains(" local 192.168.64.101 "), "{link}");
    eventually("the other node sends there", || {
        let fdb = two.ip("bridge", &["fdb", "show", "dev", "flannel.1"]);
        fdb.contains("dst 192.168.64.101 ") && !fdb.contains("dst 192.168.64.1 ")
    });
    assert!(one.reaches(two, "flannel.1") && two.reaches(one, "flannel.1"));
}

#[test]
fn the_device_of_an_earlier_configuration_goes() {
    let lab = Lab::new("outdated", CONF);
    let mut node = lab.node(1);
    node.start_ready(&[]);
    node.stop(Signal::SIGTERM);
    let foreign = ["link", "add", "flannel.9", "type", "vxlan", "id", "9"];
    node.ip("ip", &[&foreign[..], &["dstport", "4789"]].concat());
    lab.etcd.put(
        "config",
        r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","VNI":7}}"#,
    );
    node.start_ready(&[]);
    let mut kernel = node.host.kernel();
    assert_eq!(
        kernel.link_by_name(&"flannel.1".parse().unwrap()).unwrap(),
        None
    );
    index(&mut kernel, "flannel.7");
    index(&mut kernel, "flannel.9");
}
