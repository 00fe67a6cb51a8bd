//! Which of the kernel's changes may have put something of ours out of line.

use ipnetwork::IpNetwork;
use kernel::{
    Family, IfName,
    route::{Event, FdbEntry, IfIndex, Neighbour, Route},
};

use super::{PROTOCOL, Standing};
use crate::model::ByFamily;

/// What the agent has in the kernel, and what that stands on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// The names of its devices and of the external interface.
    pub names: Vec<IfName>,
    /// The indexes of its devices.
    pub devices: Vec<IfIndex>,
    /// The external interface, where its routes tell which nodes are on the link.
    pub link: Option<IfIndex>,
    /// The networks that all nodes share.
    pub networks: Vec<IpNetwork>,
    /// What stands there, once all was compared.
    pub standing: ByFamily<Standing>,
}

// === impl Watched ===

impl Watched {
    /// Whether an event is a reason to look at the kernel again. Pods that come and go are none.
    pub fn concerns(&self, event: &Event) -> bool {
        match event {
            // Routes and neighbours go unannounced with a link that is set down.
            Event::LinkChanged(link) | Event::LinkRemoved(link) => self.names.contains(&link.name),
            Event::BridgePortChanged(_) => false,
            // Every pod's interface has a link-local one.
            Event::AddressChanged(state) => {
                let mut standing = self.standing.iter();
                !state.address.link_local && !standing.any(|(_, it)| it.has_address(&state.address))
            }
            Event::AddressRemoved(address) => !address.link_local,
            Event::RouteChanged(route) => self.route_changed(route),
            Event::RouteRemoved(route) => self.route_removed(route),
            Event::OtherRoute(destination) => self.shares(*destination),
            Event::NeighbourChanged(it) => self.neighbour(it, false),
            Event::NeighbourRemoved(it) => self.neighbour(it, true),
            Event::FdbChanged(it) => self.entry(it, false),
            Event::FdbRemoved(it) => self.entry(it, true),
            Event::Resync => true,
        }
    }

    fn route_changed(&self, route: &Route) -> bool {
        let standing = self.standing.get(Family::of_network(&route.destination));
        if standing.and_then(|it| it.route(route.destination)).as_ref() == Some(route) {
            return false;
        }
        self.is_ours(route)
            || self.is_of_link(route)
            || standing.is_some_and(|it| it.is_foreign(route))
    }

    /// Also one of another program, which has stood in the way.
    fn route_removed(&self, route: &Route) -> bool {
        if self.is_of_link(route) {
            return true;
        }
        match self.standing.get(Family::of_network(&route.destination)) {
            None => self.is_ours(route) || self.shares(route.destination),
            Some(standing) => {
                standing.route(route.destination).as_ref() == Some(route)
                    || standing.knows_foreign(route)
            }
        }
    }

    fn neighbour(&self, neighbour: &Neighbour, removed: bool) -> bool {
        if !self.devices.contains(&neighbour.interface) {
            return false;
        }
        let Some(standing) = self.standing.get(Family::of(&neighbour.address)) else {
            return true;
        };
        match standing.neighbour(neighbour.address) {
            Some(wanted) => removed || wanted != *neighbour,
            None => !removed && neighbour.permanent,
        }
    }

    fn entry(&self, entry: &FdbEntry, removed: bool) -> bool {
        if !self.devices.contains(&entry.interface) {
            return false;
        }
        let of_device = |it: &&Standing| it.place().device == Some(entry.interface);
        let Some(standing) = self.standing.iter().map(|(_, it)| it).find(of_device) else {
            return true;
        };
        match standing.entry(entry.mac) {
            Some(wanted) => removed == (wanted == *entry),
            None => !removed && entry.permanent,
        }
    }

    fn is_ours(&self, route: &Route) -> bool {
        let on_device = |index| self.devices.contains(&index);
        route.protocol == PROTOCOL || route.interface().is_some_and(on_device)
    }

    /// Routes to peers say nothing of what is on the link.
    fn is_of_link(&self, route: &Route) -> bool {
        self.link.is_some() && route.interface() == self.link && route.protocol != PROTOCOL
    }

    fn shares(&self, destination: IpNetwork) -> bool {
        let mut networks = self.networks.iter();
        networks.any(|network| network.contains(destination.network()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use kernel::{
        Mac,
        route::{Address, AddressState, Link, LinkKind, NextHop, Protocol},
    };

    use super::*;
    use crate::plan::{Peer, Peers, Place, Way, wanted};

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
        Event::LinkRemoved(Link {
            index: IfIndex(3),
            name: name.parse().unwrap(),
            mac: None,
            mtu: 1500,
            up: true,
            carrier: true,
            loopback: false,
            master: None,
            parent: None,
            kind: LinkKind::Other(String::new()),
            hairpin: None,
        })
    }

    fn route(destination: &str, interface: u32, protocol: Protocol) -> Route {
        Route {
            destination: destination.parse().unwrap(),
            next_hop: NextHop::Gateway {
                gateway: [10, 5, 1, 0].into(),
                interface: IfIndex(interface),
                onlink: true,
            },
            protocol,
            table: Route::MAIN,
            metric: 0,
            source: None,
        }
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

    /// What the agent has done itself is announced to it like anything else.
    #[test]
    fn what_stands_as_it_should_concerns_nobody() {
        let place = Place {
            family: Family::V4,
            device: Some(IfIndex(7)),
            underlay: IfIndex(3),
            network: "10.5.0.0/16".parse().unwrap(),
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
        let (ours, neighbour, entry) = (&stands.routes[0], &stands.neighbours[0], &stands.fdb[0]);
        let other_route = Route {
            destination: subnet("10.5.3.0/24"),
            ..ours.clone()
        };
        let moved = FdbEntry {
            destination: "192.168.64.9".parse().unwrap(),
            ..entry.clone()
        };
        let other_mac = FdbEntry {
            mac: Mac([2, 0, 0, 0, 0, 9]),
            ..entry.clone()
        };
        let learned = FdbEntry {
            permanent: false,
            ..other_mac.clone()
        };
        let failed = Neighbour {
            mac: None,
            permanent: false,
            ..neighbour.clone()
        };
        let other_neighbour = Neighbour {
            address: "10.5.3.0".parse().unwrap(),
            ..neighbour.clone()
        };
        let mut forgotten = failed.clone();
        forgotten.address = other_neighbour.address;
        let pods = route("10.5.1.7/32", 9, Protocol::BOOT);
        let foreign = route("10.5.2.0/24", 9, Protocol::BOOT);
        for (event, concerns) in [
            (Event::RouteChanged(ours.clone()), false),
            (Event::RouteRemoved(ours.clone()), true),
            (Event::RouteChanged(other_route.clone()), true),
            (Event::RouteRemoved(other_route), false),
            (Event::RouteChanged(foreign), true),
            (Event::RouteChanged(pods.clone()), false),
            (Event::RouteRemoved(pods), false),
            (Event::RouteRemoved(obstacle), true),
            (Event::NeighbourChanged(neighbour.clone()), false),
            (Event::NeighbourRemoved(neighbour.clone()), true),
            (Event::NeighbourChanged(failed), true),
            (Event::NeighbourChanged(forgotten.clone()), false),
            (Event::NeighbourRemoved(forgotten), false),
            (Event::NeighbourChanged(other_neighbour), true),
            (Event::FdbChanged(entry.clone()), false),
            (Event::FdbRemoved(entry.clone()), true),
            (Event::FdbChanged(moved.clone()), true),
            (Event::FdbRemoved(moved), false),
            (Event::FdbChanged(other_mac.clone()), true),
            (Event::FdbRemoved(other_mac), false),
            (Event::FdbChanged(learned), false),
            (
                Event::AddressChanged(AddressState {
                    address: stands.addresses[0].clone(),
                    temporary: false,
                    deprecated: false,
                    tentative: false,
                    dad_failed: false,
                    preferred_seconds: None,
                    valid_seconds: None,
                }),
                false,
            ),
            (Event::AddressRemoved(stands.addresses[0].clone()), true),
        ] {
            assert_eq!(watched.concerns(&event), concerns, "{event:?}");
        }
    }

    fn subnet(text: &str) -> IpNetwork {
        text.parse().unwrap()
    }
}
