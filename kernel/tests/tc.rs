//! Token buckets and redirections against the kernel and against what tc(8) says.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod namespace;

use std::{net::UdpSocket, num::NonZeroU64, os::fd::AsRawFd};

use kernel::{
    route::{self, Address, IfIndex, LinkSettings, NewLink, NewLinkKind, VethPeer},
    tc::{Change, Handle, Qdisc, Redirect, Tbf},
};
use namespace::{TestNamespace, name};

fn add(node: &TestNamespace, text: &str, kind: NewLinkKind) -> IfIndex {
    let link = NewLink {
        up: true,
        ..NewLink::new(name(text), kind)
    };
    let mut handle = node.handle();
    handle.apply(&[route::Change::AddLink(link)]).unwrap();
    handle.link_by_name(&name(text)).unwrap().unwrap().index
}

fn bucket(rate: u64, burst: u32) -> Tbf {
    Tbf::new(NonZeroU64::new(rate).unwrap(), burst, Tbf::LATENCY)
}

#[test]
fn a_bucket_is_put_changed_read_and_removed() {
    let node = TestNamespace::new("tbf");
    let interface = add(&node, "ifb0", NewLinkKind::Ifb);
    let mut handle = Handle::open_in(&node.namespace).unwrap();
    let before = handle.root(interface).unwrap();
    assert!(!matches!(before, Some(Qdisc::Tbf(_))), "{before:?}");
    for (tbf, listed) in [
        (
            bucket(1_000_000, 100_000),
            "rate 8Mbit burst 100000b lat 25ms",
        ),
        (bucket(2, 1), "rate 16bit burst 1b"),
        (bucket(10_000_000_000, 1_000_000_000), "rate 80Gbit burst"),
    ] {
        handle.apply(&[Change::ReplaceTbf(interface, tbf)]).unwrap();
        assert_eq!(handle.root(interface).unwrap(), Some(Qdisc::Tbf(tbf)));
        let text = node.run("tc", &["-s", "qdisc", "show", "dev", "ifb0"], "");
        assert!(text.starts_with("qdisc tbf 1: root "), "{text}");
        assert!(text.contains(listed), "{text}");
    }
    handle.apply(&[Change::DeleteRoot(interface)]).unwrap();
    assert_eq!(handle.root(interface).unwrap(), before);
    let error = handle.apply(&[Change::DeleteRoot(interface)]).unwrap_err();
    let start = format!("tc qdisc delete dev {interface} root: ");
    assert!(error.to_string().starts_with(&start), "{error}");
    assert!(handle.root(IfIndex(99)).unwrap_err().is_not_found());
}

#[test]
fn a_bucket_made_by_tc_is_read_and_replaced() {
    let node = TestNamespace::new("tbf-tc");
    let interface = add(&node, "ifb0", NewLinkKind::Ifb);
    let mut handle = Handle::open_in(&node.namespace).unwrap();
    let command = "qdisc add dev ifb0 root handle 1: tbf rate 8mbit burst 100000b latency 25ms";
    node.run("tc", &command.split(' ').collect::<Vec<_>>(), "");
    let tbf = bucket(1_000_000, 100_000);
    assert_eq!(handle.root(interface).unwrap(), Some(Qdisc::Tbf(tbf)));
    let wider = bucket(2_000_000, 100_000);
    handle
        .apply(&[Change::ReplaceTbf(interface, wider)])
        .unwrap();
    assert_eq!(handle.root(interface).unwrap(), Some(Qdisc::Tbf(wider)));
    node.run("tc", &["qdisc", "delete", "dev", "ifb0", "root"], "");
    assert_ne!(handle.root(interface).unwrap(), Some(Qdisc::Tbf(wider)));
}

#[test]
fn what_arrives_passes_the_bucket_of_the_ifb_device() {
    let (node, pod) = (
        TestNamespace::new("mirred"),
        TestNamespace::new("mirred-pod"),
    );
    let ifb = add(&node, "ifb0", NewLinkKind::Ifb);
    let peer = VethPeer::new(name("eth0"), Some(pod.namespace.as_raw_fd()));
    let veth = add(&node, "veth0", NewLinkKind::Veth(peer));
    let mut handle = Handle::open_in(&node.namespace).unwrap();
    assert_eq!(handle.ingress(veth).unwrap(), None);
    assert_eq!(handle.redirects(veth).unwrap(), []);
    let redirect = Redirect {
        priority: 1,
        to: ifb,
    };
    let put = [
        Change::ReplaceTbf(ifb, bucket(1_000_000, 100_000)),
        Change::AddIngress(veth),
        Change::AddRedirect(veth, redirect),
    ];
    handle.apply(&put).unwrap();
    assert_eq!(handle.ingress(veth).unwrap(), Some(Qdisc::Ingress));
    assert_eq!(handle.redirects(veth).unwrap(), [redirect]);
    let again = handle.apply(&put).unwrap_err();
    assert!(again.is_exists(), "{again}");
    let filters = ["filter", "show", "dev", "veth0", "parent", "ffff:"];
    let text = node.run("tc", &filters, "");
    assert!(text.contains("match 00000000/00000000 at 0"), "{text}");
    assert!(text.contains("mirred (Egress Redirect to device ifb0) stolen"));

    let mut in_pod = pod.handle();
    let inner = in_pod.link_by_name(&name("eth0")).unwrap().unwrap().index;
    let up = LinkSettings {
        up: Some(true),
        ..LinkSettings::default()
    };
    let address = Address::global(inner, "10.0.0.2/24".parse().unwrap());
    in_pod
        .apply(&[
            route::Change::SetLink(inner, up),
            route::Change::ReplaceAddress(address),
        ])
        .unwrap();
    // Nobody has the address: that the requests for it come through the bucket is enough.
    pod.namespace
        .run(|| {
            let socket = UdpSocket::bind("10.0.0.2:0").unwrap();
            socket.send_to(b"x", "10.0.0.1:9").unwrap();
        })
        .unwrap();
    let through = || node.run("tc", &["-s", "qdisc", "show", "dev", "ifb0"], "");
    while through().contains("Sent 0 bytes") {
        std::thread::yield_now();
    }

    handle.apply(&[Change::DeleteRedirect(veth, 1)]).unwrap();
    assert_eq!(handle.redirects(veth).unwrap(), []);
    handle.apply(&[Change::DeleteIngress(veth)]).unwrap();
    assert_eq!(handle.ingress(veth).unwrap(), None);
}

#[test]
fn what_tc_made_is_recognised() {
    let node = TestNamespace::new("mirred-tc");
    let ifb = add(&node, "ifb0", NewLinkKind::Ifb);
    let mut handle = Handle::open_in(&node.namespace).unwrap();
    for (bridge, place, parent, qdisc) in [
        // As the reference plugin makes it.
        (
            "br0",
            "handle ffff: ingress",
            "parent ffff:",
            Qdisc::Ingress,
        ),
        ("br1", "clsact", "ingress", Qdisc::Clsact),
    ] {
        let index = add(&node, bridge, NewLinkKind::Bridge);
        let action = "flowid 1:1 action mirred egress redirect dev ifb0";
        let filter = format!("filter add dev {bridge} {parent} protocol");
        for command in [
            format!("qdisc add dev {bridge} {place}"),
            format!("{filter} all prio 3 u32 match u32 0 0 {action}"),
            format!("{filter} ip prio 4 u32 match ip dst 10.0.0.1/32 {action}"),
        ] {
            node.run("tc", &command.split(' ').collect::<Vec<_>>(), "");
        }
        assert_eq!(handle.ingress(index).unwrap(), Some(qdisc));
        let redirect = Redirect {
            priority: 3,
            to: ifb,
        };
        assert_eq!(handle.redirects(index).unwrap(), [redirect]);
        handle.apply(&[Change::DeleteRedirect(index, 3)]).unwrap();
        assert_eq!(handle.redirects(index).unwrap(), []);
    }
}
