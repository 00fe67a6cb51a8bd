//! A node that runs flanneld beside one that runs this agent. flanneld's part (spec 1.4 and 1.7) is done
//! by hand: what it writes to etcd and what it has the kernel do.

use kernel::Family;

use crate::{
    backends::near,
    lab::{Lab, Node, eventually},
    nodes::talks,
};

/// flanneld's device on node 2 for a family, with what leads to node 1.
struct Device {
    family: Family,
    name: &'static str,
    mac: &'static str,
    local: &'static str,
    subnet: &'static str,
}

const SUBNETS: &str = "subnets/10.5.77.0-24&fc00:0:0:77::-64";
const DEVICES: [Device; 2] = [
    Device {
        family: Family::V4,
        name: "flannel.1",
        mac: "0e:00:00:00:00:04",
        local: "192.168.64.2",
        subnet: "10.5.77.0/32",
    },
    Device {
        family: Family::V6,
        name: "flannel-v6.1",
        mac: "0e:00:00:00:00:06",
        local: "fd64::2",
        subnet: "fc00:0:0:77::/128",
    },
];

fn run(node: &Node, command: &str) {
    let mut words = command.split_whitespace();
    let program = words.next().unwrap();
    node.ip(program, &words.collect::<Vec<_>>());
}

/// What flanneld does at start, and for a peer with this subnet, Ethernet address and public address.
fn flanneld(node: &Node, device: &Device, peer: (&str, &str, &str)) {
    let Device {
        name,
        mac,
        local,
        subnet,
        ..
    } = device;
    let (its_subnet, its_mac, its_address) = peer;
    let gateway = its_subnet.split('/').next().unwrap();
    for command in [
        format!(
            "ip link add {name} address {mac} mtu 1450 type vxlan id 1 dstport 8472 local {local} dev eth0 nolearning"
        ),
        // Without waiting for others who may have the address: for tests that is all too long.
        match device.family {
            Family::V4 => format!("ip address add {subnet} dev {name}"),
            Family::V6 => format!("ip address add {subnet} dev {name} nodad"),
        },
        format!("ip link set {name} up"),
        format!("ip neigh replace {gateway} lladdr {its_mac} dev {name} nud permanent"),
        format!("bridge fdb append {its_mac} dev {name} dst {its_address} self permanent"),
        format!("ip route replace {its_subnet} via {gateway} dev {name} onlink"),
    ] {
        run(node, &command);
    }
}

/// What follows a text, up to the next quotation mark.
fn after<'a>(text: &'a str, start: &str) -> &'a str {
    let rest = text.split_once(start).unwrap().1;
    rest.split('"').next().unwrap()
}

fn vxlan_value() -> String {
    let [v4, v6] = DEVICES.map(|device| device.mac);
    format!(
        r#"{{"PublicIP":"192.168.64.2","PublicIPv6":"fd64::2","BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"{v4}"}},"BackendV6Data":{{"VNI":1,"VtepMAC":"{v6}"}}}}"#
    )
}

#[test]
fn packets_go_both_ways_by_vxlan_whoever_is_first() {
    let conf = r#"{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/48","Backend":{"Type":"vxlan"}}"#;
    for (test, is_first) in [("flanneld1", true), ("flanneld2", false)] {
        let lab = Lab::new(test, conf);
        if is_first {
            lab.etcd.put_leased(SUBNETS, &vxlan_value());
        }
        let mut one = lab.node(1);
        one.start_ready(&[]);
        lab.etcd.put_leased(SUBNETS, &vxlan_value());
        let two = lab.node(2);
        let (name, value) = lab.etcd.lease_of("\"192.168.64.1\"").unwrap();
        let (v4, v6) = name.split_once('&').unwrap();
        let v6_data = value.split_once("BackendV6Data").unwrap().1;
        let peers = [
            (v4, after(&value, "VtepMAC\":\""), "192.168.64.1"),
            (v6, after(v6_data, "VtepMAC\":\""), "fd64::1"),
        ];
        for (device, (subnet, mac, address)) in DEVICES.iter().zip(peers) {
            flanneld(&two, device, (&subnet.replace('-', "/"), mac, address));
            let family = device.family;
            eventually("there is a route", || {
                let routes = one.host.kernel().routes(family).unwrap();
                let network: std::net::IpAddr =
                    device.subnet.split('/').next().unwrap().parse().unwrap();
                routes.iter().any(|it| it.destination.network() == network)
            });
            assert!(one.reaches(&two, device.name), "{family}");
            assert!(two.reaches(&one, device.name), "{family}");
        }
    }
}

#[test]
fn packets_go_both_ways_by_host_gw() {
    let conf = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"host-gw"}}"#;
    let lab = Lab::new("flanneld3", conf);
    let value = r#"{"PublicIP":"192.168.64.2","PublicIPv6":null,"BackendType":"host-gw"}"#;
    lab.etcd.put_leased("subnets/10.5.77.0-24", value);
    let one = near(&lab, 1);
    let two = lab.node(2);
    let (pod, address) = two.pod_in("10.5.77.0-24");
    let subnet = one.lease.replace('-', "/");
    run(
        &two,
        &format!("ip route replace {subnet} via 192.168.64.1 dev eth0"),
    );
    eventually("there is a route", || {
        let route = one.node.ip("ip", &["route", "show", "10.5.77.0/24"]);
        route.trim() == "10.5.77.0/24 via 192.168.64.2 dev eth0 proto 84"
    });
    assert!(talks(&one.pod, one.address, &pod, address));
    assert!(talks(&pod, address, &one.pod, one.address));
}
