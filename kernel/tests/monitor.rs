//! Announcements of the kernel, as they come.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod namespace;

use std::os::fd::AsFd;

use kernel::{
    Mac,
    netlink::{self, Drained},
    route::{
        Address, AddressState, Change, Event, FdbEntry, Handle, IfIndex, LinkSettings, Monitor,
        Neighbour, NewLink, NewLinkKind, NextHop, Protocol, Route, Topic, Vxlan,
    },
};
use namespace::{TestNamespace, name};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

fn is_readable(monitor: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(monitor.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).unwrap() == 1
}

fn add(handle: &mut Handle, text: &str, kind: NewLinkKind) -> IfIndex {
    let link = NewLink {
        up: true,
        ..NewLink::new(name(text), kind)
    };
    handle.apply(&[Change::AddLink(link)]).unwrap();
    handle.link_by_name(&name(text)).unwrap().unwrap().index
}

fn add_vxlan(handle: &mut Handle) -> IfIndex {
    let vxlan = Vxlan {
        vni: 1.try_into().unwrap(),
        parent: None,
        local: Some("192.0.2.1".parse().unwrap()),
        port: 8472,
        learning: false,
        gbp: false,
    };
    add(handle, "flannel.1", NewLinkKind::Vxlan(vxlan))
}

fn route(interface: IfIndex, third: u8) -> Route {
    Route {
        destination: format!("10.9.{third}.0/24").parse().unwrap(),
        next_hop: NextHop::Link(interface),
        protocol: Protocol(84),
        table: Route::MAIN,
        metric: 0,
        source: None,
    }
}

#[test]
fn every_kind_of_change_is_told_and_typed() {
    let node = TestNamespace::new("monitor");
    let mut handle = node.handle();
    let mut monitor = Monitor::open_in(&node.namespace, &Topic::ALL).unwrap();
    assert!(!is_readable(&monitor));
    assert_eq!(monitor.events().unwrap(), []);

    let interface = add_vxlan(&mut handle);
    assert!(is_readable(&monitor));
    let events = monitor.events().unwrap();
    assert!(!is_readable(&monitor));
    let made = |event: &Event| matches!(event, Event::LinkChanged(link) if link.index == interface);
    assert!(events.iter().any(made), "{events:?}");

    let mac: Mac = "c6:d2:32:6f:8f:44".parse().unwrap();
    let address = Address::global(interface, "10.5.1.0/32".parse().unwrap());
    let neighbour = Neighbour {
        interface,
        address: "10.5.2.0".parse().unwrap(),
        mac: Some(mac),
        permanent: true,
    };
    let entry = FdbEntry {
        interface,
        mac,
        destination: "192.0.2.2".parse().unwrap(),
        permanent: true,
    };
    let route = route(interface, 1);
    for (change, event) in [
        (
            Change::ReplaceAddress(address.clone()),
            Event::AddressChanged(AddressState {
                address: address.clone(),
                temporary: false,
                deprecated: false,
                tentative: false,
                dad_failed: false,
                preferred_seconds: None,
                valid_seconds: None,
            }),
        ),
        (
            Change::ReplaceNeighbour(neighbour.clone()),
            Event::NeighbourChanged(neighbour.clone()),
        ),
        (
            Change::ReplaceFdb(entry.clone()),
            Event::FdbChanged(entry.clone()),
        ),
        (
            Change::ReplaceRoute(route.clone()),
            Event::RouteChanged(route.clone()),
        ),
        (
            Change::DeleteRoute(route.clone()),
            Event::RouteRemoved(route),
        ),
        (Change::DeleteFdb(entry.clone()), Event::FdbRemoved(entry)),
    ] {
        handle.apply(std::slice::from_ref(&change)).unwrap();
        let events = monitor.events().unwrap();
        assert_eq!(events, [event], "{change}");
    }
    handle
        .apply(&[Change::DeleteNeighbour(neighbour.clone())])
        .unwrap();
    let events = monitor.events().unwrap();
    let gone = |event: &Event| matches!(event, Event::NeighbourRemoved(it) if it.address == neighbour.address);
    assert!(events.iter().any(gone), "{events:?}");

    handle
        .apply(&[Change::DeleteAddress(address.clone())])
        .unwrap();
    let events = monitor.events().unwrap();
    assert_eq!(events, [Event::AddressRemoved(address)]);

    handle.apply(&[Change::DeleteLink(interface)]).unwrap();
    let events = monitor.events().unwrap();
    let gone = |event: &Event| matches!(event, Event::LinkRemoved(link) if link.index == interface);
    assert!(events.iter().any(gone), "{events:?}");
}

#[test]
fn routes_that_have_no_type_are_told_by_their_destination() {
    let node = TestNamespace::new("monitor-other");
    let mut handle = node.handle();
    add(&mut handle, "br0", NewLinkKind::Bridge);
    let mut monitor = Monitor::open_in(&node.namespace, &[Topic::Routes]).unwrap();
    for destination in ["10.7.0.0/16", "fd77::/64"] {
        node.run("ip", &["route", "add", "unreachable", destination], "");
        assert_eq!(
            monitor.events().unwrap(),
            [Event::OtherRoute(destination.parse().unwrap())]
        );
    }
}

#[test]
fn ports_of_a_bridge_are_told_apart_from_links() {
    let node = TestNamespace::new("monitor-port");
    let mut handle = node.handle();
    let bridge = add(&mut handle, "br0", NewLinkKind::Bridge);
    let port = add_vxlan(&mut handle);
    let mut monitor = Monitor::open_in(&node.namespace, &[Topic::Links]).unwrap();
    for master in [Some(bridge), Some(IfIndex(0))] {
        let settings = LinkSettings {
            master,
            ..LinkSettings::default()
        };
        handle.apply(&[Change::SetLink(port, settings)]).unwrap();
        let events = monitor.events().unwrap();
        assert!(
            events.contains(&Event::BridgePortChanged(port)),
            "{events:?}"
        );
        assert!(
            !events
                .iter()
                .any(|event| matches!(event, Event::LinkRemoved(_)))
        );
    }
}

#[test]
fn lost_announcements_mean_resync_and_then_it_goes_on() {
    let node = TestNamespace::new("monitor-lost");
    let mut handle = node.handle();
    let interface = add(&mut handle, "br0", NewLinkKind::Bridge);
    let mut monitor = Monitor::open_in(&node.namespace, &[Topic::Routes]).unwrap();
    // A small buffer, so that few changes overrun it.
    nix::sys::socket::setsockopt(&monitor, nix::sys::socket::sockopt::RcvBuf, &1024).unwrap();
    let changes: Vec<_> = (0..200)
        .map(|third| Change::ReplaceRoute(route(interface, third)))
        .collect();
    handle.apply(&changes).unwrap();
    assert_eq!(monitor.events().unwrap(), [Event::Resync]);
    assert_eq!(monitor.events().unwrap(), []);
    let one = route(interface, 201);
    handle.apply(&[Change::ReplaceRoute(one.clone())]).unwrap();
    assert_eq!(monitor.events().unwrap(), [Event::RouteChanged(one)]);
}

#[test]
fn nftables_changes_are_told_to_a_raw_monitor() {
    /// `NFNLGRP_NFTABLES`
    const NFTABLES: u32 = 7;
    let node = TestNamespace::new("monitor-nft");
    let mut monitor =
        netlink::Monitor::open_in(&node.namespace, netlink::Protocol::Netfilter, &[NFTABLES])
            .unwrap();
    node.run("nft", &["-f", "-"], "add table ip tweed-test");
    let Drained::Messages(messages) = monitor.drain().unwrap() else {
        panic!("overrun");
    };
    // NFT_MSG_NEWTABLE, NFT_MSG_NEWGEN of NFNL_SUBSYS_NFTABLES.
    let kinds: Vec<_> = messages.iter().map(|message| message.kind).collect();
    assert_eq!(kinds, [10 << 8, 10 << 8 | 15]);
}
