//! Kinds of links, their settings and details, VLANs of bridge ports, and lookups, against the kernel.
//!
//! What the running kernel may lack (dummy, ipip, WireGuard, VLAN) has to be refused by name there.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod namespace;

use std::os::fd::AsRawFd;

use kernel::route::{
    Address, Change, Handle, IfIndex, Ipip, LinkKind, LinkSettings, NewLink, NewLinkKind, NextHop,
    OperState, PortDetails, PortVlanChange, PortVlans, Protocol, Route, VethPeer, Vlan, VlanMember,
};
use namespace::{TestNamespace, name};
use nix::errno::Errno;

fn new_link(text: &str, kind: NewLinkKind) -> Change {
    Change::AddLink(NewLink {
        up: true,
        ..NewLink::new(name(text), kind)
    })
}

fn add(handle: &mut Handle, text: &str, kind: NewLinkKind) -> IfIndex {
    handle.apply(&[new_link(text, kind)]).unwrap();
    handle.link_by_name(&name(text)).unwrap().unwrap().index
}

fn add_veth(handle: &mut Handle, text: &str, peer: &str, to: Option<&TestNamespace>) -> IfIndex {
    let peer = VethPeer::new(name(peer), to.map(|to| to.namespace.as_raw_fd()));
    add(handle, text, NewLinkKind::Veth(peer))
}

fn set(handle: &mut Handle, index: IfIndex, settings: LinkSettings) {
    handle.apply(&[Change::SetLink(index, settings)]).unwrap();
}

fn up() -> LinkSettings {
    LinkSettings {
        up: Some(true),
        ..LinkSettings::default()
    }
}

#[test]
fn every_kind_reads_back_or_is_refused_by_name() {
    let node = TestNamespace::new("kinds");
    let mut handle = node.handle();
    let parent = add(&mut handle, "br0", NewLinkKind::Bridge);
    let ipip = Ipip {
        local: Some("192.0.2.1".parse().unwrap()),
        remote: None,
        parent: Some(parent),
        path_mtu_discovery: true,
    };
    let vlan = Vlan { id: 7, parent };
    for (link, kind, expected, command) in [
        ("ifb0", NewLinkKind::Ifb, LinkKind::Ifb, "ifb0 type ifb"),
        (
            "dum0",
            NewLinkKind::Dummy,
            LinkKind::Dummy,
            "dum0 type dummy",
        ),
        (
            "wg0",
            NewLinkKind::Wireguard,
            LinkKind::Wireguard,
            "wg0 type wireguard",
        ),
        (
            "flannel.ipip",
            NewLinkKind::Ipip(ipip.clone()),
            LinkKind::Ipip(ipip),
            "flannel.ipip type ipip local 192.0.2.1 dev if2",
        ),
        (
            "br0.7",
            NewLinkKind::Vlan(vlan.clone()),
            LinkKind::Vlan(vlan),
            "br0.7 link if2 type vlan id 7",
        ),
    ] {
        match handle.apply(&[new_link(link, kind)]) {
            Ok(()) => {
                println!("{link}: made");
                let made = handle.link_by_name(&name(link)).unwrap().unwrap();
                assert_eq!(made.kind, expected);
            }
            Err(error) => {
                println!("{error}");
                assert_eq!(error.errno(), Some(Errno::EOPNOTSUPP), "{error}");
                let start = format!("ip link add {command}: Operation not supported on transport");
                assert!(error.to_string().starts_with(&start), "{error}");
            }
        }
    }
}

#[test]
fn both_ends_of_a_pair_have_one_queue() {
    let [node, pod] = ["queues-node", "queues-pod"].map(TestNamespace::new);
    add_veth(&mut node.handle(), "veth0", "eth0", Some(&pod));
    for (namespace, end) in [(&node, "veth0"), (&pod, "eth0")] {
        let shown = namespace.run("ip", &["-details", "link", "show", end], "");
        assert!(shown.contains("numtxqueues 1 "), "{shown}");
        assert!(shown.contains("numrxqueues 1 "), "{shown}");
    }
}

#[test]
fn settings_read_back_as_they_were_set() {
    let node = TestNamespace::new("settings");
    let mut handle = node.handle();
    let bridge = add(&mut handle, "br0", NewLinkKind::Bridge);
    let port = add_veth(&mut handle, "veth0", "veth1", None);
    let details = handle.link_details(port).unwrap().unwrap();
    assert_eq!(details.port, None);
    assert_eq!((details.promiscuous, details.all_multicast), (false, false));
    assert_eq!(details.parent_namespace, None);

    let port_of = LinkSettings {
        master: Some(bridge),
        ..LinkSettings::default()
    };
    set(&mut handle, port, port_of);
    for on in [true, false] {
        let settings = LinkSettings {
            hairpin: Some(on),
            isolated: Some(on),
            learning: Some(!on),
            promiscuous: Some(on),
            all_multicast: Some(on),
            tx_queue_len: Some(if on { 500 } else { 1000 }),
            alias: Some(if on { "of c1".into() } else { String::new() }),
            ..LinkSettings::default()
        };
        set(&mut handle, port, settings);
        let details = handle.link_details(port).unwrap().unwrap();
        let expected = PortDetails {
            hairpin: on,
            isolated: on,
            learning: !on,
        };
        assert_eq!(details.port, Some(expected));
        assert_eq!((details.promiscuous, details.all_multicast), (on, on));
        assert_eq!(details.tx_queue_len, if on { 500 } else { 1000 });
        assert_eq!(details.alias.as_deref(), on.then_some("of c1"));
        let aliased = handle.aliased_links().unwrap();
        assert_eq!(aliased.len(), usize::from(on));
    }
    let free = LinkSettings {
        master: Some(IfIndex(0)),
        ..LinkSettings::default()
    };
    set(&mut handle, port, free);
    assert_eq!(handle.link_details(port).unwrap().unwrap().port, None);
    assert_eq!(handle.link_details(IfIndex(99)).unwrap(), None);
}

#[test]
fn operational_state_follows_the_peer() {
    let node = TestNamespace::new("operstate");
    let mut handle = node.handle();
    let link = add_veth(&mut handle, "veth0", "veth1", None);
    let peer = handle.link_by_name(&name("veth1")).unwrap().unwrap().index;
    let before = handle.link_details(link).unwrap().unwrap();
    // Unknown before the worker has looked at it for the first time.
    assert_ne!(before.state, OperState::Up);
    set(&mut handle, peer, up());
    // The kernel leaves it to a worker to notice the carrier, at once or in the next second.
    while handle.link_details(link).unwrap().unwrap().state != OperState::Up {
        std::thread::yield_now();
    }
}

#[test]
fn a_link_is_renamed_and_moved() {
    let (here, there) = (
        TestNamespace::new("move-from"),
        TestNamespace::new("move-to"),
    );
    let (mut from, mut to) = (here.handle(), there.handle());
    let link = add_veth(&mut from, "veth0", "veth1", None);
    let peer = from.link_by_name(&name("veth1")).unwrap().unwrap().index;
    let settings = LinkSettings {
        up: Some(false),
        name: Some(name("eth0")),
        namespace: Some(there.namespace.as_raw_fd()),
        ..LinkSettings::default()
    };
    set(&mut from, link, settings);
    assert!(from.link_by_name(&name("veth0")).unwrap().is_none());
    let moved = to.link_by_name(&name("eth0")).unwrap().unwrap();
    assert_eq!(moved.parent, Some(peer));
    let details = to.link_details(moved.index).unwrap().unwrap();
    assert!(details.parent_namespace.is_some());
}

#[test]
fn vlans_of_ports_are_added_listed_and_deleted() {
    let node = TestNamespace::new("vlans");
    let mut handle = node.handle();
    let bridge = add(&mut handle, "br0", NewLinkKind::Bridge);
    let filtering = LinkSettings {
        vlan_filtering: Some(true),
        ..LinkSettings::default()
    };
    if let Err(error) = handle.apply(&[Change::SetLink(bridge, filtering)]) {
        println!("{error}");
        assert_eq!(
            error.to_string().split(": ").next(),
            Some("ip link set if2 type bridge vlan_filtering 1")
        );
        assert_eq!(error.errno(), Some(Errno::EOPNOTSUPP));
        return;
    }
    println!("vlan_filtering: set");
    let details = handle.link_details(bridge).unwrap().unwrap();
    assert_eq!(details.vlan_filtering, Some(true));
    let port = add_veth(&mut handle, "veth0", "veth1", None);
    let settings = LinkSettings {
        master: Some(bridge),
        ..LinkSettings::default()
    };
    set(&mut handle, port, settings);
    let access = PortVlans {
        pvid: true,
        untagged: true,
        ..PortVlans::tagged(10)
    };
    let trunk = PortVlans {
        last: 200,
        ..PortVlans::tagged(100)
    };
    let changes = [
        PortVlanChange::Delete(VlanMember::Port(port), PortVlans::tagged(1)),
        PortVlanChange::Add(VlanMember::Port(port), access),
        PortVlanChange::Add(VlanMember::Port(port), trunk),
        PortVlanChange::Add(VlanMember::Bridge(bridge), PortVlans::tagged(10)),
    ];
    handle.apply_port_vlans(&changes).unwrap();
    let vlans = handle.port_vlans().unwrap();
    let of = |index| {
        let vlans = vlans.iter().filter(move |(it, _)| *it == index);
        vlans.map(|(_, vlans)| *vlans).collect::<Vec<_>>()
    };
    assert_eq!(of(port), [access, trunk]);
    assert!(of(bridge).contains(&PortVlans::tagged(10)));
}

#[test]
fn lookups_tell_interface_gateway_and_source() {
    let node = TestNamespace::new("lookup");
    let mut handle = node.handle();
    set(&mut handle, IfIndex(1), up());
    let link = add_veth(&mut handle, "veth0", "veth1", None);
    let peer = handle.link_by_name(&name("veth1")).unwrap().unwrap().index;
    set(&mut handle, peer, up());
    for (own, neighbour, gateway, far, dropped) in [
        (
            "10.1.0.1/24",
            "10.1.0.9",
            "10.1.0.2",
            "203.0.113.1",
            "10.66.0.0/16",
        ),
        (
            "fd01::1/64",
            "fd01::9",
            "fd01::2",
            "2001:db8::1",
            "fd66::/64",
        ),
    ] {
        let far = far.parse().unwrap();
        assert_eq!(handle.lookup(far).unwrap(), None);
        let own: ipnetwork::IpNetwork = own.parse().unwrap();
        let dropped: ipnetwork::IpNetwork = dropped.parse().unwrap();
        let gateway = gateway.parse().unwrap();
        let route = |destination, next_hop| {
            Change::ReplaceRoute(Route {
                destination,
                next_hop,
                protocol: Protocol::STATIC,
                table: Route::MAIN,
                metric: 0,
                source: None,
            })
        };
        let via = NextHop::Gateway {
            gateway,
            interface: link,
            onlink: false,
        };
        let any = ipnetwork::IpNetwork::new(
            if own.is_ipv4() {
                [0; 4].into()
            } else {
                [0; 16].into()
            },
            0,
        );
        handle
            .apply(&[
                Change::ReplaceAddress(Address::global(link, own)),
                route(any.unwrap(), via),
                route(dropped, NextHop::Blackhole),
            ])
            .unwrap();
        // IPv6 addresses are not local yet as long as the link is not ready, which a worker notices.
        let is_local = |handle: &mut Handle| {
            let found = handle.lookup(own.ip()).unwrap();
            found.is_some_and(|it| it.local && it.gateway.is_none())
        };
        while !is_local(&mut handle) {
            std::thread::yield_now();
        }
        let found = handle.lookup(far).unwrap().unwrap();
        assert_eq!(
            (found.interface, found.gateway, found.local),
            (link, Some(gateway), false)
        );
        assert_eq!(found.source, Some(own.ip()));
        let near = handle.lookup(neighbour.parse().unwrap()).unwrap().unwrap();
        assert_eq!((near.interface, near.gateway), (link, None));
        assert_eq!(handle.lookup(dropped.ip()).unwrap(), None);
    }
}

#[test]
fn lifetimes_and_states_of_addresses_are_read() {
    let node = TestNamespace::new("lifetimes");
    let mut handle = node.handle();
    let link = add(&mut handle, "br0", NewLinkKind::Bridge);
    for address in ["10.1.0.1/24", "fd01::1/64"] {
        let arguments = "address add dev br0 valid_lft 1000 preferred_lft 0";
        let arguments: Vec<_> = arguments.split(' ').chain([address]).collect();
        node.run("ip", &arguments, "");
    }
    let mut states = handle.address_states(Some(link)).unwrap();
    states.retain(|state| !state.address.link_local);
    assert_eq!(states.len(), 2);
    for state in states {
        assert!(
            state.deprecated && !state.dad_failed && !state.temporary,
            "{state:?}"
        );
        assert_eq!(state.preferred_seconds, Some(0));
        assert!(state.valid_seconds.is_some_and(|seconds| seconds <= 1000));
        assert!(!state.address.permanent);
        // A bridge without ports has no carrier, so that no detection of duplicates ends.
        assert_eq!(
            state.tentative,
            state.address.address.is_ipv6(),
            "{state:?}"
        );
    }
}
