//! Which of the kernel's changes may have put something of ours out of line.

use ipnetwork::IpNetwork;
use kernel::{
    IfName,
    route::{Event, IfIndex, Route},
};

use super::PROTOCOL;

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
            Event::AddressChanged(state) => !state.address.link_local,
            Event::AddressRemoved(address) => !address.link_local,
            Event::RouteChanged(route) => self.is_ours(route) || self.is_of_link(route),
            // Also one of another program, which has stood in the way.
            Event::RouteRemoved(route) => {
                self.is_ours(route) || self.is_of_link(route) || self.shares(route.destination)
            }
            Event::OtherRoute(destination) => self.shares(*destination),
            Event::NeighbourChanged(it) | Event::NeighbourRemoved(it) => {
                self.devices.contains(&it.interface)
            }
            Event::FdbChanged(it) | Event::FdbRemoved(it) => self.devices.contains(&it.interface),
            Event::Resync => true,
        }
    }

    fn is_ours(&self, route: &Route) -> bool {
        let on_device = |index| self.devices.contains(&index);
        route.protocol == PROTOCOL || route.interface().is_some_and(on_device)
    }

    fn is_of_link(&self, route: &Route) -> bool {
        self.link.is_some() && route.interface() == self.link
    }

    fn shares(&self, destination: IpNetwork) -> bool {
        let mut networks = self.networks.iter();
        networks.any(|network| network.contains(destination.network()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use kernel::route::{Address, FdbEntry, Link, LinkKind, Neighbour, NextHop, Protocol};

    use super::*;

    fn watched() -> Watched {
        Watched {
            names: vec!["flannel.1".parse().unwrap(), "eth0".parse().unwrap()],
            devices: vec![IfIndex(7)],
            link: None,
            networks: vec!["10.5.0.0/16".parse().unwrap()],
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
}
