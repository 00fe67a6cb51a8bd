//! What depends on the kernel: ipip and WireGuard, where it has them (`tests/debian-kernel/run.sh` runs
//! one that has), and errors where something is not there.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use kernel::{
    Family,
    wireguard::{Device, Handle},
};
use nix::sys::signal::Signal;

use crate::{
    backends::{Site, near},
    lab::{Lab, Node, TestNamespace, eventually, index},
    seeing::look,
};

const PSK: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";

/// A lab with this configuration, where the kernel has devices of the backend's kind.
fn lab(test: &str, kind: &str, keys: &str) -> Option<Lab> {
    let probe = TestNamespace::new(test, "probe");
    if !has_devices(&probe, kind) {
        println!("{test}: skipped, this kernel has no {kind}");
        return None;
    }
    let ipv6 = match kind {
        "ipip" => "",
        _ => r#""EnableIPv6":true,"IPv6Network":"fc00::/48","#,
    };
    let conf = format!(r#"{{"Network":"10.5.0.0/16",{ipv6}"Backend":{{"Type":"{kind}"{keys}}}}}"#);
    Some(Lab::new(test, &conf))
}

/// Whether the kernel makes such devices, which are then gone with the node.
fn has_devices(host: &TestNamespace, kind: &str) -> bool {
    let mut add = vec!["link", "add", "probe", "type", kind];
    if kind == "ipip" {
        // Without any address it would be the kernel's own.
        add.extend(["local", "192.0.2.1"]);
    }
    let run = || Command::new("ip").args(&add).output().unwrap();
    host.namespace.run(run).unwrap().status.success()
}

fn device(node: &Node, name: &str) -> Device {
    let interface = index(&mut node.host.kernel(), name);
    let mut wireguard = Handle::open_in(&node.host.namespace).unwrap();
    wireguard.device(interface).unwrap()
}

fn has_device(node: &Node, name: &str) -> bool {
    let mut kernel = node.host.kernel();
    kernel
        .link_by_name(&name.parse().unwrap())
        .unwrap()
        .is_some()
}

fn wait_for_peer(node: &Node, name: &str) {
    eventually("the nodes know each other", || {
        has_device(node, name) && device(node, name).peers.len() == 1
    });
}

#[test]
fn a_backend_that_the_kernel_has_not_ends_the_start() {
    for (kind, device) in [("ipip", "flannel.ipip"), ("wireguard", "flannel-wg")] {
        let conf = format!(r#"{{"Network":"10.5.0.0/16","Backend":{{"Type":"{kind}"}}}}"#);
        let lab = Lab::new(&format!("no{kind}"), &conf);
        let mut node = lab.node(1);
        if has_devices(&node.host, kind) {
            continue;
        }
        node.start(&[]);
        assert_eq!(node.wait().code(), Some(1));
        let text = format!(
            "this kernel has no {kind} devices, which Backend.Type in the network configuration asks for: \
             load its module {kind}, or take another backend (ip link add {device} "
        );
        assert_eq!(node.count_in_log(&text), 1, "{}", node.log());
        assert!(lab.etcd.leases().is_empty());
    }
}

#[test]
fn ipip_carries_what_direct_routes_do_not() {
    let Some(mut lab) = lab("ipip", "ipip", r#","DirectRouting":true"#) else {
        return;
    };
    let (one, two) = (near(&lab, 1), near(&lab, 2));
    let far = Site::start(&lab, lab.far_node(3), "192.168.65.3", &[]);
    let (_, value) = lab.etcd.lease_of("192.168.65.3").unwrap();
    let lease = r#"{"PublicIP":"192.168.65.3","PublicIPv6":null,"BackendType":"ipip"}"#;
    assert_eq!(value, lease);
    let link = one.node.ip("ip", &["-d", "link", "show", "flannel.ipip"]);
    for part in [" mtu 1480 ", "ipip remote any local 192.168.64.1 "] {
        assert!(link.contains(part), "no {part} in {link}");
    }
    let are_right = || {
        let tunnelled = "via 192.168.65.3 dev flannel.ipip proto 84 onlink";
        one.route_to(&far).ends_with(tunnelled)
            && one
                .route_to(&two)
                .ends_with("via 192.168.64.2 dev eth0 proto 84")
            && far
                .route_to(&one)
                .ends_with("via 192.168.64.1 dev flannel.ipip proto 84 onlink")
    };
    eventually("the routes are right", are_right);
    assert!(one.talks_to(&two) && one.talks_to(&far));
    lab.etcd.stop();
    one.node.ip("ip", &["link", "delete", "flannel.ipip"]);
    eventually("the device is back", are_right);
    assert!(one.talks_to(&far));
    println!("ipip: pods of two nodes talk");
}

#[test]
fn wireguard_carries_both_families_by_a_device_each() {
    let keys = format!(r#","PSK":"{PSK}","PersistentKeepaliveInterval":25"#);
    let Some(mut lab) = lab("wireguard", "wireguard", &keys) else {
        return;
    };
    let (mut one, two) = (near(&lab, 1), near(&lab, 2));
    for name in ["flannel-wg", "flannel-wg-v6"] {
        wait_for_peer(&one.node, name);
        wait_for_peer(&two.node, name);
        assert!(one.node.reaches(&two.node, name) && two.node.reaches(&one.node, name));
        let link = one.node.ip("ip", &["link", "show", name]);
        assert!(link.contains(" mtu 1420 "), "{link}");
    }
    assert!(one.talks_to(&two));
    println!("WireGuard: pods of two nodes talk");

    let own = device(&one.node, "flannel-wg");
    let public_key = own.public_key.unwrap();
    assert_eq!(
        lab.etcd.lease_of("192.168.64.1").unwrap().1,
        format!(
            r#"{{"PublicIP":"192.168.64.1","PublicIPv6":"fd64::1","BackendType":"wireguard","BackendData":{{"PublicKey":"{public_key}","Port":51820}},"BackendV6Data":{{"PublicKey":"{public_key}","Port":51821}}}}"#
        )
    );
    let peer = &own.peers[0];
    assert_eq!(peer.preshared_key, Some(PSK.parse().unwrap()));
    assert_eq!(peer.endpoint, Some("192.168.64.2:51820".parse().unwrap()));
    assert!(peer.keepalive == 25 && peer.last_handshake.is_some());
    let key_file = one.node.directory.path().join("wgkey");
    let mode = fs::metadata(&key_file).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert_eq!(
        fs::read_to_string(&key_file).unwrap(),
        own.private_key.unwrap().reveal()
    );
    assert!(!one.node.log().contains(PSK));

    let routes = one.node.ip("ip", &["route", "show", "dev", "flannel-wg"]);
    assert_eq!(routes.trim(), "10.5.0.0/16 proto 84 scope link");

    one.node.stop(Signal::SIGKILL);
    assert!(one.talks_to(&two));
    one.node.start_ready(&[]);
    assert_eq!(device(&one.node, "flannel-wg").public_key, Some(public_key));
    lab.etcd.stop();
    one.node.ip("ip", &["link", "delete", "flannel-wg"]);
    wait_for_peer(&one.node, "flannel-wg");
    assert!(one.node.reaches(&two.node, "flannel-wg"));

    assert_eq!(one.node.stop(Signal::SIGTERM).code(), Some(0));
    assert!(!has_device(&one.node, "flannel-wg") && !has_device(&one.node, "flannel-wg-v6"));
}

/// The nodes behind a device: where they are, and their subnets.
fn behind(node: &Node, name: &str) -> Vec<String> {
    let mut peers: Vec<_> = device(node, name)
        .peers
        .iter()
        .map(|peer| {
            let mut networks: Vec<_> = peer.allowed_ips.iter().map(ToString::to_string).collect();
            networks.sort();
            let endpoint = peer.endpoint.map(|it| it.to_string());
            format!("{} {}", endpoint.unwrap_or_default(), networks.join(" "))
        })
        .collect();
    peers.sort();
    peers
}

#[test]
fn wireguards_nodes_come_change_and_go_one_by_one() {
    let Some(lab) = lab("wgpeers", "wireguard", "") else {
        return;
    };
    let mut node = lab.node(1);
    node.start_ready(&[]);
    let put = |subnet: u8, key: &str, address: u8| {
        let data = |port| format!(r#"{{"PublicKey":"{key}","Port":{port}}}"#);
        let value = format!(
            r#"{{"PublicIP":"192.168.64.{address}","PublicIPv6":"fd64::{address}","BackendType":"wireguard","BackendData":{},"BackendV6Data":{}}}"#,
            data(51820),
            data(51821)
        );
        let name = format!("subnets/10.5.{subnet}.0-24&fc00:0:0:{subnet}::-64");
        lab.etcd.put_leased(&name, &value);
    };
    let other = PSK.replace('x', "y");
    put(71, PSK, 71);
    put(72, &other, 72);
    // Another address; the second node's subnet is the first one's.
    put(71, PSK, 73);
    put(72, PSK, 73);
    put(74, &other, 74);
    let stand = |node: &Node| {
        let expected = |network: &str, port| {
            let place = |node| match network {
                "v4" => format!("192.168.64.{node}:{port}"),
                _ => format!("[fd64::{node}]:{port}"),
            };
            let subnet = |octet| match network {
                "v4" => format!("10.5.{octet}.0/24"),
                _ => format!("fc00:0:0:{octet}::/64"),
            };
            vec![
                format!("{} {} {}", place(73), subnet(71), subnet(72)),
                format!("{} {}", place(74), subnet(74)),
            ]
        };
        behind(node, "flannel-wg") == expected("v4", 51820)
            && behind(node, "flannel-wg-v6") == expected("v6", 51821)
    };
    eventually("all leases stand", || stand(&node));
    // It answers between two looks.
    look(&node, &["status"]);
    let before = node.count_in_log("reconciled: WireGuard");
    node.stop(Signal::SIGKILL);
    node.start_ready(&[]);
    assert!(stand(&node));
    assert_eq!(node.count_in_log("reconciled: WireGuard"), before);
    for subnet in [72, 74] {
        let name = format!("subnets/10.5.{subnet}.0-24&fc00:0:0:{subnet}::-64");
        lab.etcd.delete(&name);
    }
    eventually("they are gone", || {
        behind(&node, "flannel-wg") == ["192.168.64.73:51820 10.5.71.0/24"]
    });
    println!("WireGuard: nodes come, change and go");
}

#[test]
fn wireguard_carries_both_families_by_one_device() {
    let keys = r#","Mode":"ipv6","ListenPort":51900,"MTU":1400"#;
    let Some(lab) = lab("wgmode", "wireguard", keys) else {
        return;
    };
    let (one, two) = (near(&lab, 1), near(&lab, 2));
    wait_for_peer(&one.node, "flannel-wg");
    wait_for_peer(&two.node, "flannel-wg");
    assert!(!has_device(&one.node, "flannel-wg-v6"));
    let endpoint = device(&one.node, "flannel-wg").peers[0].endpoint;
    assert_eq!(endpoint, Some("[fd64::2]:51900".parse().unwrap()));
    eventually("both families have their route", || {
        Family::ALL.into_iter().all(|family| {
            let routes = one.node.host.kernel().routes(family).unwrap();
            let mut routes = routes.iter();
            routes.any(|it| it.protocol == flannel_agent::plan::PROTOCOL)
        })
    });
    assert!(one.talks_to(&two));
    let own = one
        .node
        .ip("ip", &["-6", "address", "show", "dev", "flannel-wg"]);
    assert!(own.contains("/128 scope global"), "{own}");
    println!("WireGuard in one device over IPv6: pods of two nodes talk");
}

#[test]
fn iptables_without_br_netfilter_ends_the_start() {
    let conf = r#"{"Network":"10.5.0.0/16","EnableNFTables":false,"Backend":{"Type":"vxlan"}}"#;
    let lab = Lab::new("brnf", conf);
    let mut node = lab.node(1);
    if std::path::Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables").exists() {
        node.start_ready(&[]);
        return;
    }
    node.start(&[]);
    assert_eq!(node.wait().code(), Some(1));
    let text =
        "Failed to check br_netfilter: /proc/sys/net/bridge/bridge-nf-call-iptables: No such file";
    assert_eq!(node.count_in_log(text), 1, "{}", node.log());
    println!("br_netfilter is missed");
}
