//! The entries that lead to other nodes: addresses, neighbours and forwarding entries of the device, where
//! there is one, and routes (spec 1.7).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnetwork::IpNetwork;
use kernel::{
    Family, Mac,
    route::{Address, Change, FdbEntry, IfIndex, Neighbour, NextHop, Protocol, Route},
};

use super::{Device, Peer, Way};

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

/// How to get from one state to another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableDiff {
    /// What to change, in this order: first what is added, neighbours before forwarding entries before
    /// routes, so that a route never leads nowhere; then what is removed, the other way round. An address that
    /// is another node's now goes before its route comes.
    pub changes: Vec<Change>,
    /// Routes of others that stand where one of ours should; they are not touched.
    pub conflicts: Vec<Route>,
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

/// The changes from what the kernel has to what is wanted. Other addresses of the device within the
/// network are remains of an earlier subnet.
pub fn diff(have: &Tables, want: &Tables, place: &Place) -> TableDiff {
    let mut diff = TableDiff::default();
    let mut removals = Vec::new();
    diff.addresses(have, want, place.network, &mut removals);
    // The kernel takes no route by a gateway that is an address of its own.
    let gateways: BTreeSet<_> = want.routes.iter().filter_map(Route::gateway).collect();
    let (in_the_way, mut removals): (Vec<_>, Vec<_>) = removals.into_iter().partition(
        |it| matches!(it, Change::DeleteAddress(it) if gateways.contains(&it.address.ip())),
    );
    diff.changes.extend(in_the_way);
    diff.neighbours(have, want, &mut removals);
    diff.fdb(have, want, &mut removals);
    diff.routes(have, want, place, &mut removals);
    removals.reverse();
    diff.changes.append(&mut removals);
    diff
}

/// The removal of all routes of ours, for a family that is not used any more.
pub fn leftover_routes(have: &[Route]) -> Vec<Change> {
    let ours = have.iter().filter(|route| has_our_number(route));
    ours.cloned().map(Change::DeleteRoute).collect()
}

// === impl Place ===

impl Place {
    /// The device's address where the node holds a subnet.
    fn address_of(&self, subnet: IpNetwork) -> Option<Address> {
        Some(Address::global(self.device?, Device::address(subnet)))
    }

    /// The neighbour that is a node's gateway, where it has an Ethernet address.
    pub(super) fn neighbour_of(&self, subnet: IpNetwork, peer: &Peer) -> Option<Neighbour> {
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
    pub(super) fn entry_of(&self, mac: Mac, destination: IpAddr) -> Option<FdbEntry> {
        Some(FdbEntry {
            interface: self.device?,
            mac,
            destination,
            permanent: true,
        })
    }

    /// The route for the whole network, if there is to be one.
    pub(super) fn route_to_all(&self) -> Option<Route> {
        let device = self.device.filter(|_| self.whole_network)?;
        Some(self.route(self.network, NextHop::Link(device)))
    }

    /// The route to a node's subnet, if it needs one of its own.
    pub(super) fn route_to(&self, subnet: IpNetwork, peer: &Peer) -> Option<Route> {
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
    pub(super) fn is_ours(&self, route: &Route) -> bool {
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

// === impl TableDiff ===

impl TableDiff {
    fn addresses(
        &mut self,
        have: &Tables,
        want: &Tables,
        network: IpNetwork,
        removals: &mut Vec<Change>,
    ) {
        let has =
            |all: &[Address], address: &Address| all.iter().any(|it| it.address == address.address);
        for address in want.addresses.iter().filter(|it| !has(&have.addresses, it)) {
            self.changes.push(Change::ReplaceAddress(address.clone()));
        }
        for address in have.addresses.iter().filter(|it| !has(&want.addresses, it)) {
            if network.contains(address.address.ip()) {
                removals.push(Change::DeleteAddress(address.clone()));
            }
        }
    }

    fn neighbours(&mut self, have: &Tables, want: &Tables, removals: &mut Vec<Change>) {
        let standing: BTreeSet<_> = have.neighbours.iter().collect();
        let wanted: BTreeSet<_> = want.neighbours.iter().map(|it| it.address).collect();
        for neighbour in want.neighbours.iter().filter(|it| !standing.contains(it)) {
            self.changes
                .push(Change::ReplaceNeighbour(neighbour.clone()));
        }
        // What is not permanent is the kernel's, and it forgets it by itself.
        for neighbour in have.neighbours.iter().filter(|it| it.permanent) {
            if !wanted.contains(&neighbour.address) {
                removals.push(Change::DeleteNeighbour(neighbour.clone()));
            }
        }
    }

    /// An Ethernet address can have several destinations, of which a replacement changes but one.
    fn fdb(&mut self, have: &Tables, want: &Tables, removals: &mut Vec<Change>) {
        let mut standing = BTreeMap::<Mac, Vec<&FdbEntry>>::new();
        for entry in &have.fdb {
            standing.entry(entry.mac).or_default().push(entry);
        }
        for entry in &want.fdb {
            let same_mac = standing.remove(&entry.mac).unwrap_or_default();
            let (same, others): (Vec<_>, Vec<_>) =
                same_mac.into_iter().partition(|it| *it == entry);
            if !same.is_empty() {
                removals.extend(others.into_iter().cloned().map(Change::DeleteFdb));
            } else {
                let superfluous = others.into_iter().skip(1);
                self.changes
                    .extend(superfluous.cloned().map(Change::DeleteFdb));
                self.changes.push(Change::ReplaceFdb(entry.clone()));
            }
        }
        // Learned entries are the kernel's.
        let stale = standing.into_values().flatten().filter(|it| it.permanent);
        removals.extend(stale.cloned().map(Change::DeleteFdb));
    }

    fn routes(&mut self, have: &Tables, want: &Tables, place: &Place, removals: &mut Vec<Change>) {
        let spot = |route: &Route| (route.destination, route.table, route.metric);
        let standing: BTreeSet<_> = have.routes.iter().collect();
        let foreign: BTreeMap<_, _> = have
            .routes
            .iter()
            .filter(|route| !place.is_ours(route))
            .map(|route| (spot(route), route))
            .collect();
        let wanted: BTreeSet<_> = want.routes.iter().map(spot).collect();
        for route in want.routes.iter().filter(|it| !standing.contains(it)) {
            match foreign.get(&spot(route)) {
                Some(found) if !is_flannels_own(found, route) => {
                    self.conflicts.push((*found).clone());
                }
                _ => self.changes.push(Change::ReplaceRoute(route.clone())),
            }
        }
        for route in have.routes.iter().filter(|it| place.is_ours(it)) {
            if !wanted.contains(&spot(route)) {
                removals.push(Change::DeleteRoute(route.clone()));
            }
        }
    }
}

pub(super) fn has_our_number(route: &Route) -> bool {
    route.table == Route::MAIN && route.protocol == PROTOCOL
}

/// Whether a route that stands is what flannel writes for the same purpose.
fn is_flannels_own(found: &Route, wanted: &Route) -> bool {
    found.protocol == Protocol::BOOT && found.next_hop == wanted.next_hop
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEVICE: IfIndex = IfIndex(7);

    fn place() -> Place {
        Place {
            family: Family::V4,
            device: Some(DEVICE),
            underlay: IfIndex(2),
            network: "10.5.0.0/16".parse().unwrap(),
            whole_network: false,
        }
    }

    fn subnet(octet: u8) -> IpNetwork {
        format!("10.5.{octet}.0/24").parse().unwrap()
    }

    fn peer(node: u8, mac: u8) -> Peer {
        Peer {
            address: format!("192.168.64.{node}").parse().unwrap(),
            way: Way::Vxlan(Mac([2, 0, 0, 0, 0, mac])),
        }
    }

    fn want(own: u8, peers: &[(u8, u8, u8)]) -> Tables {
        let peers = peers
            .iter()
            .map(|&(octet, node, mac)| (subnet(octet), peer(node, mac)))
            .collect();
        wanted(&place(), subnet(own), &peers)
    }

    /// The same nodes, reached without a tunnel.
    fn want_direct(place: &Place, peers: &[(u8, u8)]) -> Tables {
        want_by(place, Way::Direct, peers)
    }

    fn want_by(place: &Place, way: Way, peers: &[(u8, u8)]) -> Tables {
        let peer = |node| Peer {
            way,
            ..peer(node, 0)
        };
        let peers = peers
            .iter()
            .map(|&(octet, node)| (subnet(octet), peer(node)));
        wanted(place, subnet(1), &peers.collect())
    }

    fn texts(have: &Tables, want: &Tables) -> Vec<String> {
        let diff = diff(have, want, &place());
        diff.changes.iter().map(Change::to_string).collect()
    }

    /// What the kernel does, in so far as the entries here are concerned.
    fn apply(tables: &mut Tables, change: &Change) {
        match change.clone() {
            Change::ReplaceAddress(it) => tables.addresses.push(it),
            Change::DeleteAddress(it) => remove(&mut tables.addresses, &it),
            Change::ReplaceNeighbour(it) => {
                tables
                    .neighbours
                    .retain(|other| other.address != it.address);
                tables.neighbours.push(it);
            }
            Change::DeleteNeighbour(it) => remove(&mut tables.neighbours, &it),
            Change::ReplaceFdb(it) => match tables.fdb.iter_mut().find(|other| other.mac == it.mac)
            {
                Some(first) => *first = it,
                None => tables.fdb.push(it),
            },
            Change::DeleteFdb(it) => remove(&mut tables.fdb, &it),
            Change::ReplaceRoute(it) => {
                tables.routes.retain(|other| {
                    (other.destination, other.table, other.metric)
                        != (it.destination, it.table, it.metric)
                });
                tables.routes.push(it);
            }
            Change::DeleteRoute(it) => remove(&mut tables.routes, &it),
            Change::AddLink(_)
            | Change::SetLink(..)
            | Change::DeleteLink(_)
            | Change::ReplaceRouteWith(..) => panic!("{change}"),
        }
    }

    fn remove<T: PartialEq + std::fmt::Debug>(all: &mut Vec<T>, gone: &T) {
        let at = all.iter().position(|it| it == gone);
        all.remove(at.unwrap_or_else(|| panic!("{gone:?} is not there")));
    }

    fn sorted(mut tables: Tables) -> Tables {
        tables.addresses.sort();
        tables.neighbours.sort();
        tables.fdb.sort();
        tables.routes.sort();
        tables
    }

    #[test]
    fn a_peer_is_added_from_the_far_end() {
        assert_eq!(
            texts(&want(1, &[]), &want(1, &[(34, 3, 9)])),
            [
                "ip neigh replace 10.5.34.0 lladdr 02:00:00:00:00:09 dev if7 nud permanent",
                "bridge fdb replace 02:00:00:00:00:09 dev if7 dst 192.168.64.3 self permanent",
                "ip route replace 10.5.34.0/24 via 10.5.34.0 dev if7 onlink proto 84",
            ]
        );
    }

    #[test]
    fn a_peer_is_removed_from_the_near_end() {
        assert_eq!(
            texts(&want(1, &[(34, 3, 9)]), &want(1, &[])),
            [
                "ip route delete 10.5.34.0/24 via 10.5.34.0 dev if7 onlink proto 84",
                "bridge fdb delete 02:00:00:00:00:09 dev if7 dst 192.168.64.3 self permanent",
                "ip neigh delete 10.5.34.0 lladdr 02:00:00:00:00:09 dev if7 nud permanent",
            ]
        );
    }

    #[test]
    fn a_changed_mac_leaves_nothing_behind() {
        assert_eq!(
            texts(&want(1, &[(34, 3, 8)]), &want(1, &[(34, 3, 9)])),
            [
                "ip neigh replace 10.5.34.0 lladdr 02:00:00:00:00:09 dev if7 nud permanent",
                "bridge fdb replace 02:00:00:00:00:09 dev if7 dst 192.168.64.3 self permanent",
                "bridge fdb delete 02:00:00:00:00:08 dev if7 dst 192.168.64.3 self permanent",
            ]
        );
    }

    #[test]
    fn a_moved_peer_is_replaced() {
        assert_eq!(
            texts(&want(1, &[(34, 3, 8)]), &want(1, &[(34, 4, 8)])),
            ["bridge fdb replace 02:00:00:00:00:08 dev if7 dst 192.168.64.4 self permanent"]
        );
    }

    #[test]
    fn a_peer_on_the_link_needs_a_route_alone() {
        let tunnelled = want(1, &[(34, 3, 8)]);
        let direct = want_direct(&place(), &[(34, 3)]);
        assert_eq!(
            texts(&tunnelled, &direct),
            [
                "ip route replace 10.5.34.0/24 via 192.168.64.3 dev if2 proto 84",
                "bridge fdb delete 02:00:00:00:00:08 dev if7 dst 192.168.64.3 self permanent",
                "ip neigh delete 10.5.34.0 lladdr 02:00:00:00:00:08 dev if7 nud permanent",
            ]
        );
        assert_eq!(
            texts(&direct, &tunnelled),
            [
                "ip neigh replace 10.5.34.0 lladdr 02:00:00:00:00:08 dev if7 nud permanent",
                "bridge fdb replace 02:00:00:00:00:08 dev if7 dst 192.168.64.3 self permanent",
                "ip route replace 10.5.34.0/24 via 10.5.34.0 dev if7 onlink proto 84",
            ]
        );
    }

    #[test]
    fn ipip_has_nodes_as_gateways_on_the_device() {
        let want = want_by(&place(), Way::Ipip, &[(34, 3)]);
        assert_eq!(
            texts(&Tables::default(), &want),
            [
                "ip address replace 10.5.1.0/32 dev if7",
                "ip route replace 10.5.34.0/24 via 192.168.64.3 dev if7 onlink proto 84",
            ]
        );
        let mut flannels = want_by(&place(), Way::Ipip, &[(34, 3), (35, 4)]);
        for route in &mut flannels.routes {
            route.protocol = Protocol::BOOT;
        }
        assert_eq!(
            texts(&flannels, &want),
            [
                "ip route replace 10.5.34.0/24 via 192.168.64.3 dev if7 onlink proto 84",
                "ip route delete 10.5.35.0/24 via 192.168.64.4 dev if7 onlink proto 3",
            ]
        );
    }

    #[test]
    fn wireguard_has_one_route_however_many_nodes() {
        let place = Place {
            whole_network: true,
            ..place()
        };
        let key = kernel::wireguard::PublicKey([7; 32]);
        let way = Way::Wireguard(key, "192.168.64.3:51820".parse().unwrap());
        for peers in [&[][..], &[(34, 3), (35, 4)]] {
            let want = want_by(&place, way, peers);
            let changes = diff(&Tables::default(), &want, &place).changes;
            let texts: Vec<_> = changes.iter().map(Change::to_string).collect();
            assert_eq!(
                texts,
                [
                    "ip address replace 10.5.1.0/32 dev if7",
                    "ip route replace 10.5.0.0/16 dev if7 proto 84",
                ]
            );
        }
    }

    #[test]
    fn without_a_device_there_are_routes_alone() {
        let place = Place {
            device: None,
            ..place()
        };
        let want = want_direct(&place, &[(34, 3), (35, 4)]);
        assert_eq!((want.routes.len(), want.addresses.len()), (2, 0));
        let mut have = want.clone();
        have.routes[0].protocol = Protocol::BOOT;
        have.routes[1].protocol = Protocol::STATIC;
        let diff = diff(&have, &want, &place);
        assert_eq!(
            diff.changes,
            [Change::ReplaceRoute(want.routes[0].clone())],
            "flannel's own is taken over"
        );
        assert_eq!(diff.conflicts, [have.routes[1].clone()]);
        assert_eq!(leftover_routes(&have.routes), []);
        assert_eq!(leftover_routes(&want.routes).len(), 2);
    }

    #[test]
    fn a_new_own_subnet_changes_the_address() {
        assert_eq!(
            texts(&want(1, &[]), &want(2, &[])),
            [
                "ip address replace 10.5.2.0/32 dev if7",
                "ip address delete 10.5.1.0/32 dev if7"
            ]
        );
    }

    #[test]
    fn an_address_lost_to_a_peer_goes_before_its_route_comes() {
        assert_eq!(
            texts(&want(1, &[]), &want(2, &[(1, 3, 9)])),
            [
                "ip address replace 10.5.2.0/32 dev if7",
                "ip address delete 10.5.1.0/32 dev if7",
                "ip neigh replace 10.5.1.0 lladdr 02:00:00:00:00:09 dev if7 nud permanent",
                "bridge fdb replace 02:00:00:00:00:09 dev if7 dst 192.168.64.3 self permanent",
                "ip route replace 10.5.1.0/24 via 10.5.1.0 dev if7 onlink proto 84",
            ]
        );
    }

    #[test]
    fn ipv6_routes_have_the_kernels_metric() {
        let subnet: IpNetwork = "fc00:0:0:5::/64".parse().unwrap();
        let address = "fd00::2".parse().unwrap();
        let peers = [(
            subnet,
            Peer {
                address,
                way: Way::Vxlan(Mac([2, 0, 0, 0, 0, 1])),
            },
        )]
        .into_iter()
        .collect();
        let place = Place {
            family: Family::V6,
            network: "fc00::/48".parse().unwrap(),
            ..place()
        };
        let tables = wanted(&place, "fc00:0:0:1::/64".parse().unwrap(), &peers);
        assert_eq!(
            Change::ReplaceRoute(tables.routes[0].clone()).to_string(),
            "ip route replace fc00:0:0:5::/64 via fc00:0:0:5:: dev if7 onlink metric 1024 proto 84"
        );
    }

    #[test]
    fn what_is_not_ours_stays() {
        let peers = want(1, &[(34, 3, 9)]);
        let foreign = Route {
            next_hop: NextHop::Link(IfIndex(3)),
            protocol: Protocol::STATIC,
            ..peers.routes[0].clone()
        };
        let elsewhere = Route {
            destination: subnet(99),
            ..foreign.clone()
        };
        let have = Tables {
            addresses: vec![
                Address::global(DEVICE, "10.5.1.0/32".parse().unwrap()),
                Address::global(DEVICE, "172.16.0.1/24".parse().unwrap()),
            ],
            neighbours: vec![Neighbour {
                interface: DEVICE,
                address: "10.5.50.0".parse().unwrap(),
                mac: None,
                permanent: false,
            }],
            fdb: vec![FdbEntry {
                permanent: false,
                ..want(1, &[(50, 5, 5)]).fdb[0].clone()
            }],
            routes: vec![foreign.clone(), elsewhere],
        };
        let diff = diff(&have, &want(1, &[(34, 3, 9)]), &place());
        assert_eq!(diff.conflicts, [foreign]);
        assert_eq!(diff.changes.len(), 2, "{:?}", diff.changes);
    }

    #[test]
    fn flannels_own_routes_are_taken_over() {
        let mut have = want(1, &[(34, 3, 9), (35, 4, 8)]);
        for route in &mut have.routes {
            route.protocol = Protocol::BOOT;
        }
        let changes = texts(&have, &want(1, &[(34, 3, 9)]));
        assert_eq!(
            changes[0],
            "ip route replace 10.5.34.0/24 via 10.5.34.0 dev if7 onlink proto 84"
        );
        assert_eq!(
            changes[1],
            "ip route delete 10.5.35.0/24 via 10.5.35.0 dev if7 onlink proto 3"
        );
    }

    prop_compose! {
        fn some_peers()(peers in prop::collection::btree_map(2..9u8, (1..5u8, 1..5u8), 0..6)) -> Vec<(u8, u8, u8)> {
            peers.into_iter().map(|(octet, (node, mac))| (octet, node, mac)).collect()
        }
    }

    proptest! {
        #[test]
        fn the_changes_lead_to_what_is_wanted(
            before in some_peers(),
            after in some_peers(),
            own: bool,
            doubled in prop::collection::btree_set((1..5u8, 1..5u8), 0..4),
        ) {
            let mut tables = want(1, &before);
            for (node, mac) in doubled {
                let entry = want(1, &[(9, node, mac)]).fdb[0].clone();
                if !tables.fdb.contains(&entry) {
                    tables.fdb.push(entry);
                }
            }
            let want = want(if own { 1 } else { 10 }, &after);
            for change in diff(&tables, &want, &place()).changes {
                apply(&mut tables, &change);
            }
            prop_assert_eq!(sorted(tables.clone()), sorted(want.clone()));
            prop_assert_eq!(diff(&tables, &want, &place()), TableDiff::default());
        }
    }
}
