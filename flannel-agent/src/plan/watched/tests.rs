//! Announcements, and whom they concern.

use kernel::{
    Mac,
    route::{Address, AddressState, NextHop, Protocol},
};

use super::*;
use crate::plan::{Peer, Peers, Place, Tables, Way, sample, wanted};

fn watched() -> Watched {
    Watched {
        names: vec!["flannel.1".parse().unwrap(), "eth0".parse().unwrap()],
        devices: vec![IfIndex(7)],
        link: None,
        networks: vec!["10.5.0.0/16".parse().unwrap()],
        standing: ByFamily::default(),
    }
}

fn link(name: &str) -> Event {
    Event::LinkRemoved(sample::link(3, name, sample::other_kind()))
}

fn route(destination: &str, interface: u32, protocol: Protocol) -> Route {
    let next_hop = NextHop::Gateway {
        gateway: [10, 5, 1, 0].into(),
        interface: IfIndex(interface),
        onlink: true,
    };
    sample::route(destination, next_hop, protocol)
}

fn address(text: &str, link_local: bool) -> Event {
    Event::AddressRemoved(Address {
        link_local,
        ..Address::global(IfIndex(3), text.parse().unwrap())
    })
}

fn neighbour(interface: u32) -> Event {
    Event::NeighbourRemoved(Neighbour {
        interface: IfIndex(interface),
        address: [10, 5, 1, 0].into(),
        mac: None,
        permanent: true,
    })
}

fn fdb(interface: u32) -> Event {
    Event::FdbRemoved(FdbEntry {
        interface: IfIndex(interface),
        mac: kernel::Mac([2, 0, 0, 0, 0, 1]),
        destination: [192, 168, 64, 1].into(),
        permanent: true,
    })
}

#[test]
fn only_what_is_ours_or_below_it_concerns() {
    for (event, concerns) in [
        (link("flannel.1"), true),
        (link("eth0"), true),
        (link("veth1234"), false),
        (Event::BridgePortChanged(IfIndex(7)), false),
        (address("192.168.64.1/24", false), true),
        (address("fe80::1/64", true), false),
        (
            Event::RouteChanged(route("10.5.1.0/24", 7, Protocol::BOOT)),
            true,
        ),
        (
            Event::RouteChanged(route("10.5.1.0/24", 3, Protocol::BOOT)),
            false,
        ),
        (Event::RouteChanged(route("10.9.1.0/24", 3, PROTOCOL)), true),
        (
            Event::RouteRemoved(route("10.5.1.0/24", 3, Protocol::BOOT)),
            true,
        ),
        (
            Event::RouteRemoved(route("10.9.1.0/24", 3, Protocol::BOOT)),
            false,
        ),
        (Event::OtherRoute("10.5.1.0/24".parse().unwrap()), true),
        (Event::OtherRoute("10.9.1.0/24".parse().unwrap()), false),
        (neighbour(7), true),
        (neighbour(3), false),
        (fdb(7), true),
        (fdb(3), false),
        (Event::Resync, true),
    ] {
        assert_eq!(watched().concerns(&event), concerns, "{event:?}");
    }
}

#[test]
fn routes_of_the_link_concern_where_they_matter() {
    let event = Event::RouteRemoved(route("192.168.64.0/24", 3, Protocol::KERNEL));
    assert!(!watched().concerns(&event));
    let routed = Watched {
        link: Some(IfIndex(3)),
        ..watched()
    };
    assert!(routed.concerns(&event));
}

/// What stands for one other node, what was in its way, and who watches it.
fn standing() -> (Watched, Tables, Route) {
    let place = Place {
        family: Family::V4,
        device: Some(IfIndex(7)),
        underlay: IfIndex(3),
        network: subnet("10.5.0.0/16"),
        whole_network: false,
    };
    let (own, far) = (subnet("10.5.1.0/24"), subnet("10.5.2.0/24"));
    let peer = Peer {
        address: "192.168.64.2".parse().unwrap(),
        way: Way::Vxlan(Mac([2, 0, 0, 0, 0, 2])),
    };
    let peers = Peers {
        by_subnet: [(far, peer)].into_iter().collect(),
        ..Peers::default()
    };
    let stands = wanted(&place, own, &peers.by_subnet);
    let obstacle = route("10.5.9.0/24", 4, Protocol::STATIC);
    let had = std::slice::from_ref(&obstacle);
    let standing = Standing::new(place, own, peers, stands.clone(), had);
    let mut watched = Watched {
        link: Some(IfIndex(3)),
        ..watched()
    };
    watched.standing.insert(Family::V4, standing);
    (watched, stands, obstacle)
}

/// What the agent has done itself is announced to it like anything else.
#[track_caller]
fn assert_concerns(watched: &Watched, event: &Event, concerns: bool) {
    assert_eq!(watched.concerns(event), concerns, "{event:?}");
}

#[test]
fn routes_that_stand_as_they_should_concern_nobody() {
    let (watched, stands, obstacle) = standing();
    let ours = &stands.routes[0];
    let other = Route {
        destination: subnet("10.5.3.0/24"),
        ..ours.clone()
    };
    let pods = route("10.5.1.7/32", 9, Protocol::BOOT);
    let foreign = route("10.5.2.0/24", 9, Protocol::BOOT);
    for (event, concerns) in [
        (Event::RouteChanged(ours.clone()), false),
        (Event::RouteRemoved(ours.clone()), true),
        (Event::RouteChanged(other.clone()), true),
        (Event::RouteRemoved(other), false),
        (Event::RouteChanged(foreign), true),
        (Event::RouteChanged(pods.clone()), false),
        (Event::RouteRemoved(pods), false),
        (Event::RouteRemoved(obstacle), true),
    ] {
        assert_concerns(&watched, &event, concerns);
    }
}

#[test]
fn neighbours_that_stand_as_they_should_concern_nobody() {
    let (watched, stands, _) = standing();
    let ours = &stands.neighbours[0];
    let failed = Neighbour {
        mac: None,
        permanent: false,
        ..ours.clone()
    };
    let other = Neighbour {
        address: "10.5.3.0".parse().unwrap(),
        ..ours.clone()
    };
    let forgotten = Neighbour {
        address: other.address,
        ..failed.clone()
    };
    for (event, concerns) in [
        (Event::NeighbourChanged(ours.clone()), false),
        (Event::NeighbourRemoved(ours.clone()), true),
        (Event::NeighbourChanged(failed), true),
        (Event::NeighbourChanged(forgotten.clone()), false),
        (Event::NeighbourRemoved(forgotten), false),
        (Event::NeighbourChanged(other), true),
    ] {
        assert_concerns(&watched, &event, concerns);
    }
}

#[test]
fn forwarding_entries_that_stand_as_they_should_concern_nobody() {
    let (watched, stands, _) = standing();
    let ours = &stands.fdb[0];
    let moved = FdbEntry {
        destination: "192.168.64.9".parse().unwrap(),
        ..ours.clone()
    };
    let other = FdbEntry {
        mac: Mac([2, 0, 0, 0, 0, 9]),
        ..ours.clone()
    };
    let learned = FdbEntry {
        permanent: false,
        ..other.clone()
    };
    for (event, concerns) in [
        (Event::FdbChanged(ours.clone()), false),
        (Event::FdbRemoved(ours.clone()), true),
        (Event::FdbChanged(moved.clone()), true),
        (Event::FdbRemoved(moved), false),
        (Event::FdbChanged(other.clone()), true),
        (Event::FdbRemoved(other), false),
        (Event::FdbChanged(learned), false),
    ] {
        assert_concerns(&watched, &event, concerns);
    }
}

#[test]
fn the_devices_own_address_concerns_only_when_it_goes() {
    let (watched, stands, _) = standing();
    let address = &stands.addresses[0];
    let state = AddressState {
        address: address.clone(),
        temporary: false,
        deprecated: false,
        tentative: false,
        dad_failed: false,
        preferred_seconds: None,
        valid_seconds: None,
    };
    assert_concerns(&watched, &Event::AddressChanged(state), false);
    assert_concerns(&watched, &Event::AddressRemoved(address.clone()), true);
}

fn subnet(text: &str) -> IpNetwork {
    text.parse().unwrap()
}
