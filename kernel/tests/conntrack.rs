//! Tracked flows against the kernel and against what conntrack(8) says.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod namespace;

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
};

use kernel::{
    Family,
    conntrack::{Flow, Handle, Protocol},
    route::{Address, Change, IfIndex, LinkSettings},
};
use namespace::TestNamespace;

/// Tracks everything, translates one address per family, and gives every flow a mark.
const RULES: &str = "
table inet test {
    chain translated {
        type nat hook output priority -100;
        ip daddr 10.96.0.10 udp dport 53 dnat ip to 127.0.0.1:5353
        ip6 daddr fd96::a udp dport 53 dnat ip6 to [::1]:5353
    }
    chain marked {
        type filter hook output priority 0;
        ct state new ct mark set 0x4d
    }
}";

/// A namespace with loopback up, where every flow is tracked.
fn node(test: &str) -> TestNamespace {
    let node = TestNamespace::new(test);
    let mut route = node.handle();
    let loopback = IfIndex(1);
    let up = LinkSettings {
        up: Some(true),
        ..LinkSettings::default()
    };
    route.apply(&[Change::SetLink(loopback, up)]).unwrap();
    for address in ["10.96.0.10/32", "fd96::a/128"] {
        let address = Address::global(loopback, address.parse().unwrap());
        route.apply(&[Change::ReplaceAddress(address)]).unwrap();
    }
    node.run("nft", &["-f", "-"], RULES);
    node
}

/// Sends a datagram from each of some sockets.
fn send(node: &TestNamespace, from: &str, to: &str, count: usize) -> Vec<UdpSocket> {
    node.namespace
        .run(|| {
            (0..count)
                .map(|_| {
                    let socket = UdpSocket::bind((from, 0)).unwrap();
                    socket.send_to(b"x", to).unwrap();
                    socket
                })
                .collect()
        })
        .unwrap()
}

/// The values of one line of `conntrack -L`: key to values in order (src, dst, sport, dport are there
/// twice).
fn fields(line: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut fields: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (key, value) in line.split_whitespace().filter_map(|it| it.split_once('=')) {
        fields.entry(key).or_default().push(value);
    }
    fields
}

fn assert_same_as_listed(flow: &Flow, line: &str) {
    let fields = fields(line);
    let pair = |address: &str, port: &str, at: usize| {
        let ip = fields[address][at].parse().unwrap();
        SocketAddr::new(ip, fields[port][at].parse().unwrap())
    };
    for (at, tuple) in [flow.original, flow.reply].into_iter().enumerate() {
        assert_eq!(tuple.source, pair("src", "sport", at), "{line}");
        assert_eq!(tuple.destination, pair("dst", "dport", at), "{line}");
    }
    assert_eq!(fields["mark"], [flow.mark.to_string()], "{line}");
    assert_eq!(fields["id"], [flow.id.to_string()], "{line}");
    assert_eq!(!flow.status.seen_reply(), line.contains("[UNREPLIED]"));
    assert_eq!(flow.status.assured(), line.contains("[ASSURED]"));
}

fn list(node: &TestNamespace, family: &str, protocol: &str) -> Vec<String> {
    let arguments = ["-L", "-f", family, "-p", protocol, "-o", "id"];
    let text = node.run("conntrack", &arguments, "");
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn translated_and_plain_flows_are_those_that_conntrack_lists() {
    let node = node("ct-list");
    let mut handle = Handle::open_in(&node.namespace).unwrap();
    for (family, name, from, service, endpoint) in [
        (
            Family::V4,
            "ipv4",
            "10.96.0.10",
            "10.96.0.10:53",
            "127.0.0.1:5353",
        ),
        (Family::V6, "ipv6", "fd96::a", "[fd96::a]:53", "[::1]:5353"),
    ] {
        let sockets = send(&node, from, service, 1);
        let listener = node
            .namespace
            .run(|| TcpListener::bind((from, 0)).unwrap())
            .unwrap();
        let server = listener.local_addr().unwrap();
        let stream = node
            .namespace
            .run(|| TcpStream::connect(server).unwrap())
            .unwrap();

        let flows = handle.flows(family, Protocol::Udp).unwrap();
        let [flow] = flows.as_slice() else {
            panic!("{flows:?}");
        };
        assert_eq!(flow.original.source, sockets[0].local_addr().unwrap());
        assert_eq!(flow.original.destination, service.parse().unwrap());
        assert_eq!(flow.reply.source, endpoint.parse().unwrap());
        assert!(flow.status.destination_nat() && !flow.status.source_nat());
        assert_eq!((flow.mark, flow.zone), (0x4d, 0));
        assert!(flow.timeout > 0);
        let listed = list(&node, name, "udp");
        assert_same_as_listed(flow, &listed[0]);

        let flows = handle.flows(family, Protocol::Tcp).unwrap();
        let [flow] = flows.as_slice() else {
            panic!("{flows:?}");
        };
        assert_eq!(flow.original.source, stream.local_addr().unwrap());
        assert_eq!(flow.original.destination, server);
        assert!(flow.status.assured() && !flow.status.destination_nat());
        assert_same_as_listed(flow, &list(&node, name, "tcp")[0]);
        assert_eq!(handle.flows(family, Protocol::Sctp).unwrap(), []);
    }
}

#[test]
fn exactly_the_flow_of_tuple_and_id_is_deleted() {
    let node = node("ct-delete");
    let mut handle = Handle::open_in(&node.namespace).unwrap();
    for (family, from, to) in [
        (Family::V4, "127.0.0.1", "127.0.0.1:9"),
        (Family::V6, "::1", "[::1]:9"),
    ] {
        let sockets = send(&node, from, to, 3);
        let flows = handle.flows(family, Protocol::Udp).unwrap();
        assert_eq!(flows.len(), 3);
        let one = flows[1].clone();
        let other = Flow {
            id: one.id ^ 1,
            ..one.clone()
        };
        assert_eq!(handle.delete(&[other]).unwrap(), [false]);
        assert_eq!(handle.flows(family, Protocol::Udp).unwrap().len(), 3);
        let delete = std::slice::from_ref(&one);
        assert_eq!(handle.delete(delete).unwrap(), [true]);
        assert_eq!(handle.delete(delete).unwrap(), [false]);
        let left = handle.flows(family, Protocol::Udp).unwrap();
        assert_eq!(left.len(), 2);
        assert!(left.iter().all(|flow| flow.original != one.original));
        drop(sockets);
    }
}

#[test]
fn zones_are_read_and_flows_deleted_in_them() {
    let node = node("ct-zone");
    node.run(
        "nft",
        &["-f", "-"],
        "table ip zoned { chain sent { type filter hook output priority -300; ct zone set 7; }; }",
    );
    let mut handle = Handle::open_in(&node.namespace).unwrap();
    let sockets = send(&node, "127.0.0.1", "127.0.0.1:9", 1);
    let flows = handle.flows(Family::V4, Protocol::Udp).unwrap();
    assert_eq!(flows.iter().map(|flow| flow.zone).collect::<Vec<_>>(), [7]);
    assert_eq!(handle.delete(&flows).unwrap(), [true]);
    drop(sockets);
}

#[test]
fn thousands_of_flows_are_counted_read_and_deleted() {
    let node = node("ct-many");
    let mut handle = Handle::open_in(&node.namespace).unwrap();
    let socket = node
        .namespace
        .run(|| UdpSocket::bind("127.0.0.1:0").unwrap())
        .unwrap();
    for port in 20_000..25_000 {
        // Refusals of earlier ports (ICMP) come back as errors of later calls.
        while socket.send_to(b"x", ("127.0.0.1", port)).is_err() {}
    }
    let flows = handle.flows(Family::V4, Protocol::Udp).unwrap();
    assert_eq!(flows.len(), 5000);
    assert_eq!(handle.count().unwrap(), 5000);
    assert!(handle.delete(&flows).unwrap().into_iter().all(|it| it));
    assert_eq!(handle.count().unwrap(), 0);
}
