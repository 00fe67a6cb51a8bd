//! Router advertisements from other nodes, where the kernel's own setting against them can't be had.

use std::{
    net::{Ipv6Addr, SocketAddrV6},
    os::fd::AsRawFd,
};

use kernel::Family;
use nix::sys::{
    signal::Signal,
    socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, sendto, setsockopt,
        socket, sockopt,
    },
};

use crate::{
    lab::{Lab, Node, eventually, index},
    nodes::wait_for_peers,
};

const CONF: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;
const DEVICE: &str = "flannel.1";
const RULE: &str = "iifname \"flannel.1\" icmpv6 type nd-router-advert drop";
/// RFC 4861, section 4.2; the kernel adds the checksum. The router wants to be one for half an hour.
const ADVERTISEMENT: [u8; 16] = [134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];

fn accepts(node: &Node) -> String {
    let key = format!("net/ipv6/conf/{DEVICE}/accept_ra");
    node.host
        .namespace
        .run(|| kernel::sysctl::get(&key).unwrap())
        .unwrap()
}

fn drops(node: &Node) -> bool {
    node.ip("nft", &["list", "ruleset"]).contains(RULE)
}

/// Whether the kernel has another node as its router.
fn is_configured(node: &Node) -> bool {
    let routes = node.ip("ip", &["-6", "route", "show", "default", "dev", DEVICE]);
    routes.contains("proto ra")
}

/// The address of the device on its link, once it is certain.
fn link_local(node: &Node) -> Ipv6Addr {
    let mut found = None;
    eventually("the device has an address of its own", || {
        let text = node.ip(
            "ip",
            &[
                "-6",
                "-o",
                "address",
                "show",
                "dev",
                DEVICE,
                "scope",
                "link",
                "-tentative",
            ],
        );
        let address = text
            .split_whitespace()
            .find_map(|it| it.strip_suffix("/64"));
        found = address.map(|it| it.parse().unwrap());
        found.is_some()
    });
    found.unwrap()
}

/// Advertises one node to the other as its router.
fn advertise(from: &Node, to: &Node) {
    let address = link_local(to);
    link_local(from);
    let mac = to.host.kernel();
    let mac = { mac }.link_by_name(&DEVICE.parse().unwrap()).unwrap();
    let mac = mac.unwrap().mac.unwrap().to_string();
    from.ip(
        "ip",
        &[
            "neigh",
            "replace",
            &address.to_string(),
            "lladdr",
            &mac,
            "dev",
            DEVICE,
        ],
    );
    let scope = index(&mut from.host.kernel(), DEVICE).0;
    let send = || {
        let raw = SockType::Raw;
        let protocol = SockProtocol::IcmpV6;
        let socket = socket(AddressFamily::Inet6, raw, SockFlag::SOCK_CLOEXEC, protocol).unwrap();
        setsockopt(&socket, sockopt::Ipv6Ttl, &255).unwrap();
        let to = SockaddrIn6::from(SocketAddrV6::new(address, 0, 0, scope));
        let flags = MsgFlags::empty();
        sendto(socket.as_raw_fd(), &ADVERTISEMENT, &to, flags).unwrap()
    };
    assert_eq!(from.host.namespace.run(send).unwrap(), ADVERTISEMENT.len());
}

#[test]
fn other_nodes_do_not_configure_one_whose_settings_are_read_only() {
    let lab = Lab::new("advert", CONF);
    let mut nodes = [lab.node(1), lab.node(2)];
    nodes[0].start_ready_in_container();
    nodes[1].start_ready(&[]);
    wait_for_peers(&nodes.each_ref(), Family::V4, DEVICE);
    let [one, two] = &mut nodes;
    assert_eq!((accepts(one).as_str(), accepts(two).as_str()), ("1", "0"));
    eventually("they are dropped", || drops(one));
    assert!(!drops(two), "where the setting is there, no rule is needed");
    one.ip("nft", &["delete", "table", "ip6", "tweed-flannel-agent"]);
    eventually("they are dropped again", || drops(one));

    // What comes later over the same way has come: so has this.
    assert!(two.reaches(one, DEVICE));
    advertise(two, one);
    assert!(two.reaches(one, DEVICE));
    assert!(!is_configured(one));

    one.stop(Signal::SIGTERM);
    one.ip("nft", &["delete", "table", "ip6", "tweed-flannel-agent"]);
    eventually("it would be configured", || {
        advertise(two, one);
        is_configured(one)
    });

    one.start_ready_in_container();
    eventually("they are dropped", || drops(one));
    one.stop(Signal::SIGTERM);
    one.start_ready(&[]);
    eventually("no rule is needed", || !drops(one) && accepts(one) == "0");
    assert!(!one.ip("nft", &["list", "tables"]).contains("tweed"));
}
