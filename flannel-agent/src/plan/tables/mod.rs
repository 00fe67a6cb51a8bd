//! The entries that lead to other nodes: addresses, neighbours and forwarding entries of the device, where
//! there is one, and routes (spec 1.7).

mod diff;
mod place;

use std::{collections::BTreeMap, net::IpAddr};

use ipnetwork::IpNetwork;
use kernel::{
    Mac,
    route::{Address, FdbEntry, Neighbour, Route},
};

pub use diff::{TableDiff, diff, leftover_routes};
pub(super) use place::has_our_number;
pub use place::{PROTOCOL, Place};

use super::{Peer, Way};

/// What stands or should stand on a device, and the routes of its family that other devices have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Addresses of the device.
    pub addresses: Vec<Address>,
    /// Neighbours on the device.
    pub neighbours: Vec<Neighbour>,
    /// Forwarding entries of the device.
    pub fdb: Vec<FdbEntry>,
    /// All routes of the family.
    pub routes: Vec<Route>,
}

/// What should stand in a place where the node holds a subnet.
pub fn wanted(place: &Place, subnet: IpNetwork, peers: &BTreeMap<IpNetwork, Peer>) -> Tables {
    let mut tables = Tables::default();
    // Two nodes with one Ethernet address can't both be reached; the first by subnet wins.
    let mut destinations = BTreeMap::<Mac, IpAddr>::new();
    for (subnet, peer) in peers {
        tables.routes.extend(place.route_to(*subnet, peer));
        tables.neighbours.extend(place.neighbour_of(*subnet, peer));
        if let Way::Vxlan(mac) = peer.way {
            destinations.entry(mac).or_insert(peer.address);
        }
    }
    tables.routes.extend(place.route_to_all());
    tables.addresses = place.address_of(subnet).into_iter().collect();
    let entries = destinations.into_iter();
    tables.fdb = entries
        .filter_map(|(mac, destination)| place.entry_of(mac, destination))
        .collect();
    tables
}

#[cfg(test)]
mod tests;
