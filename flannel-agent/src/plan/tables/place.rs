//! Where entries belong, and what one is there.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use kernel::{
    Family, Mac,
    route::{Address, FdbEntry, IfIndex, Neighbour, NextHop, Protocol, Route},
};

use crate::plan::{Device, Peer, Way};

/// The protocol number of our routes. It is not assigned in `/etc/iproute2/rt_protos`; what carries
/// another number is somebody else's.
pub const PROTOCOL: Protocol = Protocol(84);

/// Where the entries of a family belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The family.
    pub family: Family,
    /// The device, where there is one.
    pub device: Option<IfIndex>,
    /// The external interface.
    pub underlay: IfIndex,
    /// The network that all nodes share.
    pub network: IpNetwork,
    /// Whether one route for the whole network leads to the device, and none for single nodes.
    pub whole_network: bool,
}

// === impl Place ===

impl Place {
    /// The device's address where the node holds a subnet.
    pub(super) fn address_of(&self, subnet: IpNetwork) -> Option<Address> {
        Some(Address::global(self.device?, Device::address(subnet)))
    }

    /// The neighbour that is a node's gateway, where it has an Ethernet address.
    pub(in crate::plan) fn neighbour_of(
        &self,
        subnet: IpNetwork,
        peer: &Peer,
    ) -> Option<Neighbour> {
        let Way::Vxlan(mac) = peer.way else {
            return None;
        };
        Some(Neighbour {
            interface: self.device?,
            address: subnet.network(),
            mac: Some(mac),
            permanent: true,
        })
    }

    /// The forwarding entry of an Ethernet address.
    pub(in crate::plan) fn entry_of(&self, mac: Mac, destination: IpAddr) -> Option<FdbEntry> {
        Some(FdbEntry {
            interface: self.device?,
            mac,
            destination,
            permanent: true,
        })
    }

    /// The route for the whole network, if there is to be one.
    pub(in crate::plan) fn route_to_all(&self) -> Option<Route> {
        let device = self.device.filter(|_| self.whole_network)?;
        Some(self.route(self.network, NextHop::Link(device)))
    }

    /// The route to a node's subnet, if it needs one of its own.
    pub(in crate::plan) fn route_to(&self, subnet: IpNetwork, peer: &Peer) -> Option<Route> {
        let gateway = match peer.way {
            Way::Vxlan(_) => subnet.network(),
            Way::Ipip | Way::Direct => peer.address,
            Way::Wireguard(..) => return None,
        };
        let onlink = peer.way != Way::Direct;
        let interface = if onlink { self.device? } else { self.underlay };
        let next_hop = NextHop::Gateway {
            gateway,
            interface,
            onlink,
        };
        Some(self.route(subnet, next_hop))
    }

    fn route(&self, destination: IpNetwork, next_hop: NextHop) -> Route {
        Route {
            destination,
            next_hop,
            protocol: PROTOCOL,
            table: Route::MAIN,
            // The kernel's own default for IPv6 when none is given.
            metric: match self.family {
                Family::V4 => 0,
                Family::V6 => 1024,
            },
            source: None,
        }
    }

    /// Whether a route is ours: it carries our number, or it is of the form that flannel gives its routes
    /// on the device, which it numbers as everybody does.
    pub(in crate::plan) fn is_ours(&self, route: &Route) -> bool {
        let is_flannels = match route.next_hop {
            NextHop::Gateway {
                gateway,
                interface,
                onlink: true,
            } => {
                Some(interface) == self.device
                    && self.network.contains(route.destination.network())
                    && (gateway == route.destination.network() || !self.network.contains(gateway))
            }
            NextHop::Link(interface) => {
                self.whole_network
                    && Some(interface) == self.device
                    && route.destination == self.network
                    && route.protocol == Protocol::BOOT
            }
            _ => false,
        };
        route.table == Route::MAIN && is_flannels || has_our_number(route)
    }
}

pub(in crate::plan) fn has_our_number(route: &Route) -> bool {
    route.table == Route::MAIN && route.protocol == PROTOCOL
}
