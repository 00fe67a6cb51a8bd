//! Links, addresses, routes, neighbours and forwarding entries against the kernel.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod namespace;

use std::net::{IpAddr, TcpListener, TcpStream};

use kernel::{
    Family, Mac,
    netns::Namespace,
    route::{
        Address, Change, FdbEntry, Handle, IfIndex, LinkKind, LinkSettings, Neighbour, NewLink,
        NewLinkKind, NextHop, Protocol, Route, VethPeer, Vxlan,
    },
};

use namespace::{TestNamespace, name};

fn new_link(text: &str, kind: NewLinkKind) -> Change {
    Change::AddLink(NewLink {
        up: true,
        ..NewLink::new(name(text), kind)
    })
}

fn index_of(handle: &mut Handle, text: &str) -> IfIndex {
    handle.link_by_name(&name(text)).unwrap().unwrap().index
}

fn up(index: IfIndex) -> Change {
    Change::SetLink(
        index,
        LinkSettings {
            up: Some(true),
            ..LinkSettings::default()
        },
    )
}

fn vxlan(parent: Option<IfIndex>, local: &str) -> Vxlan {
    Vxlan {
        vni: 1.try_into().unwrap(),
        parent,
        local: Some(local.parse().unwrap()),
        port: 8472,
        learning: false,
        gbp: false,
    }
}

#[test]
fn veth_is_made_in_another_namespace_as_a_bridge_port_and_carries_tcp() {
    let (host, pod) = (
        TestNamespace::new("veth-host"),
        TestNamespace::new("veth-pod"),
    );
    let (mut in_host, mut in_pod) = (host.handle(), pod.handle());
    in_host
        .apply(&[new_link("br0", NewLinkKind::Bridge)])
        .unwrap();
    let bridge = index_of(&mut in_host, "br0");
    let mac: Mac = "0a:58:0a:00:00:02".parse().unwrap();
    let peer = VethPeer {
        mac: Some(mac),
        mtu: Some(1450),
        ..VethPeer::new(
            name("eth0"),
            Some(std::os::fd::AsRawFd::as_raw_fd(&pod.namespace)),
        )
    };
    let veth = NewLink {
        name: name("veth0"),
        kind: NewLinkKind::Veth(peer),
        mac: None,
        mtu: Some(1450),
        up: true,
        master: Some(bridge),
    };
    in_host.apply(&[Change::AddLink(veth)]).unwrap();

    let outer = in_host.link_by_name(&name("veth0")).unwrap().unwrap();
    let inner = in_pod.link_by_name(&name("eth0")).unwrap().unwrap();
    assert_eq!(
        (outer.master, outer.mtu, outer.kind),
        (Some(bridge), 1450, LinkKind::Veth)
    );
    assert_eq!((inner.mac, inner.mtu), (Some(mac), 1450));
    in_pod.apply(&[up(inner.index)]).unwrap();
    assert_eq!(outer.parent, Some(inner.index));
    assert_eq!(outer.hairpin, Some(false));
    let hairpin = LinkSettings {
        hairpin: Some(true),
        ..LinkSettings::default()
    };
    in_host
        .apply(&[Change::SetLink(outer.index, hairpin)])
        .unwrap();
    assert_eq!(
        in_host.link_by_index(outer.index).unwrap().unwrap().hairpin,
        Some(true)
    );

    for (gateway, address) in [("10.0.0.1/24", "10.0.0.2/24"), ("fd00::1/64", "fd00::2/64")] {
        let address = Address::global(inner.index, address.parse().unwrap());
        let gateway = Address::global(bridge, gateway.parse().unwrap());
        in_pod
            .apply(&[Change::ReplaceAddress(address.clone())])
            .unwrap();
        in_host.apply(&[Change::ReplaceAddress(gateway)]).unwrap();
        assert!(
            in_pod
                .addresses(Some(inner.index))
                .unwrap()
                .contains(&address)
        );
        let listener = pod
            .namespace
            .run(|| TcpListener::bind((address.address.ip(), 0)).unwrap())
            .unwrap();
        let server = listener.local_addr().unwrap();
        host.namespace
            .run(|| TcpStream::connect(server).unwrap())
            .unwrap();
        in_pod
            .apply(&[Change::DeleteAddress(address.clone())])
            .unwrap();
        assert!(!in_pod.addresses(None).unwrap().contains(&address));
    }
}

#[test]
fn vxlan_entries_read_back_as_they_were_written() {
    let node = TestNamespace::new("vxlan");
    let mut handle = node.handle();
    handle
        .apply(&[new_link("eth0", NewLinkKind::Bridge)])
        .unwrap();
    let parent = index_of(&mut handle, "eth0");
    for (device, remote, network) in [
        ("flannel.1", "192.168.0.2", "10.5.34.0/24"),
        ("flannel-v6.1", "fd01::2", "fd00:12:13::/64"),
    ] {
        let remote: IpAddr = remote.parse().unwrap();
        let local = if remote.is_ipv4() {
            "192.168.0.1"
        } else {
            "fd01::1"
        };
        let wanted = vxlan(Some(parent), local);
        handle
            .apply(&[new_link(device, NewLinkKind::Vxlan(wanted.clone()))])
            .unwrap();
        let link = handle.link_by_name(&name(device)).unwrap().unwrap();
        assert_eq!(link.kind, LinkKind::Vxlan(wanted));
        // Without any address the node has no local table, and no gateway is valid.
        let own = if remote.is_ipv4() {
            "10.5.1.0/32"
        } else {
            "fd00:12::/128"
        };
        handle
            .apply(&[Change::ReplaceAddress(Address::global(
                link.index,
                own.parse().unwrap(),
            ))])
            .unwrap();

        let destination: ipnetwork::IpNetwork = network.parse().unwrap();
        let mac: Mac = "c6:d2:32:6f:8f:44".parse().unwrap();
        let interface = link.index;
        let neighbour = Neighbour {
            interface,
            address: destination.ip(),
            mac: Some(mac),
            permanent: true,
        };
        let entry = FdbEntry {
            interface,
            mac,
            destination: remote,
            permanent: true,
        };
        let route = Route {
            destination,
            next_hop: NextHop::Gateway {
                gateway: destination.ip(),
                interface,
                onlink: true,
            },
            protocol: Protocol(84),
            table: Route::MAIN,
            metric: if remote.is_ipv4() { 0 } else { 1024 },
            source: None,
        };
        let put = [
            Change::ReplaceNeighbour(neighbour.clone()),
            Change::ReplaceFdb(entry.clone()),
            Change::ReplaceRoute(route.clone()),
        ];
        handle.apply(&put).unwrap();
        handle.apply(&put).unwrap();
        let family = Family::of(&remote);
        let ours = |route: &Route| route.protocol == Protocol(84);
        assert!(
            handle
                .neighbours(family, interface)
                .unwrap()
                .contains(&neighbour)
        );
        assert_eq!(handle.fdb(interface).unwrap(), vec![entry.clone()]);
        assert_eq!(
            handle
                .routes(family)
                .unwrap()
                .into_iter()
                .filter(ours)
                .collect::<Vec<_>>(),
            vec![route.clone()]
        );

        handle
            .apply(&[
                Change::DeleteRoute(route),
                Change::DeleteFdb(entry),
                Change::DeleteNeighbour(neighbour.clone()),
            ])
            .unwrap();
        assert!(
            !handle
                .neighbours(family, interface)
                .unwrap()
                .contains(&neighbour)
        );
        assert_eq!(handle.fdb(interface).unwrap(), []);
        assert!(!handle.routes(family).unwrap().iter().any(ours));
    }
}

#[test]
fn a_refused_change_is_named_and_the_others_are_made() {
    let node = TestNamespace::new("refused");
    let mut handle = node.handle();
    let outcomes = handle
        .apply_each(&[
            up(IfIndex(99)),
            new_link("br0", NewLinkKind::Bridge),
            new_link("br0", NewLinkKind::Bridge),
            up(IfIndex(1)),
        ])
        .unwrap();
    let texts: Vec<_> = outcomes
        .iter()
        .map(|outcome| outcome.as_ref().err().map(ToString::to_string))
        .collect();
    assert_eq!(
        texts,
        [
            Some("ip link set if99 up: No such device (ENODEV)".to_owned()),
            None,
            Some("ip link add br0 type bridge: File exists (EEXIST)".to_owned()),
            None,
        ]
    );
    assert!(handle.link_by_name(&name("br0")).unwrap().is_some());
    assert!(handle.link_by_name(&name("br1")).unwrap().is_none());
    assert!(handle.link_by_index(IfIndex(1)).unwrap().unwrap().up);
}

#[test]
fn thousands_of_changes_go_in_few_system_calls() {
    let node = TestNamespace::new("many");
    let mut handle = node.handle();
    handle
        .apply(&[new_link("br0", NewLinkKind::Bridge)])
        .unwrap();
    let interface = index_of(&mut handle, "br0");
    let routes: Vec<_> = (0..5000u32)
        .map(|i| Route {
            destination: ipnetwork::IpNetwork::new(
                IpAddr::from((0x0a00_0000 + (i << 8)).to_be_bytes()),
                24,
            )
            .unwrap(),
            next_hop: NextHop::Link(interface),
            protocol: Protocol(84),
            table: Route::MAIN,
            metric: 0,
            source: None,
        })
        .collect();
    let changes: Vec<_> = routes.iter().cloned().map(Change::ReplaceRoute).collect();
    let before = handle.sent();
    handle.apply(&changes).unwrap();
    assert_eq!(handle.sent() - before, 5000);
    let mut observed = handle.routes(Family::V4).unwrap();
    observed.sort();
    assert_eq!(observed, routes);
    // 5,000 refusals fit the receive buffer as well.
    let down = LinkSettings {
        up: Some(false),
        ..LinkSettings::default()
    };
    handle.apply(&[Change::SetLink(interface, down)]).unwrap();
    let outcomes = handle.apply_each(&changes).unwrap();
    assert_eq!(
        outcomes.iter().filter(|outcome| outcome.is_err()).count(),
        5000
    );
}

#[test]
fn namespaces_are_told_apart_and_deleted() {
    let node = TestNamespace::new("same");
    let inside = node
        .namespace
        .run(|| Namespace::current().unwrap())
        .unwrap();
    assert!(inside.is_same(&node.namespace).unwrap());
    assert!(!inside.is_same(&Namespace::current().unwrap()).unwrap());
    let error = Namespace::create_named(&node.name).unwrap_err();
    assert!(error.is_exists(), "{error}");
    let error = Namespace::open("/run/netns/tweed-nowhere").unwrap_err();
    assert!(error.is_not_found(), "{error}");
}

#[test]
fn a_visit_ends_at_home() {
    let node = TestNamespace::new("visit");
    let home = Namespace::current().unwrap();
    let current = || Namespace::current().unwrap();
    let inside = node.namespace.visit(current).unwrap();
    assert!(inside.is_same(&node.namespace).unwrap());
    assert!(current().is_same(&home).unwrap());
    // By a panic as well.
    let visit = || node.namespace.visit(|| panic!("in there"));
    std::panic::catch_unwind(visit).unwrap_err();
    assert!(current().is_same(&home).unwrap());
}

#[test]
fn sysctls_are_those_of_the_namespace_and_set_once() {
    let node = TestNamespace::new("sysctl");
    node.namespace
        .run(|| {
            let key = "net/ipv4/conf/all/arp_notify";
            assert!(kernel::sysctl::set(key, "1").unwrap());
            assert!(!kernel::sysctl::set(key, "1").unwrap());
            assert_eq!(kernel::sysctl::get(key).unwrap(), "1");
        })
        .unwrap();
    let error = kernel::sysctl::get("net/ipv4/nothing").unwrap_err();
    assert!(
        error.to_string().starts_with("sysctl net/ipv4/nothing: "),
        "{error}"
    );
}
