//! What stands for all peers of a family since the kernel was last compared with the leases, so that a lease
//! that changes costs what it changes, and an announcement of what stands is known for what it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnetwork::IpNetwork;
use kernel::{
    Mac,
    route::{Address, Change, FdbEntry, Neighbour, Route},
    wireguard::PublicKey,
};

use super::{Peer, Peers, Place, Tables, Way, diff};

/// What stands in a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    place: Place,
    own: IpNetwork,
    peers: BTreeMap<IpNetwork, Peer>,
    /// Which subnets are behind an Ethernet address.
    behind: BTreeSet<(Mac, IpNetwork)>,
    addresses: Vec<Address>,
    /// Routes that lead to no single peer.
    others: Vec<Route>,
    /// Routes of other programs that a lease could ask for, by destination and metric.
    foreign: BTreeMap<(IpNetwork, u32), Route>,
    /// Subnets that several leases may decide on.
    unclear: BTreeSet<IpNetwork>,
}

/// The peers that subnets have now; `None` where there is none any more.
pub type ChangedPeers = BTreeMap<IpNetwork, Option<Peer>>;

// === impl Standing ===

impl Standing {
    /// What stands where a node holds the subnet `own`, and the kernel was given all that is `wanted` for
    /// `peers` beside the routes that it had.
    pub fn new(place: Place, own: IpNetwork, peers: Peers, wanted: Tables, had: &[Route]) -> Self {
        let Peers {
            by_subnet: peers,
            unclear,
            ..
        } = peers;
        let behind = |(subnet, peer): (&IpNetwork, &Peer)| Some((mac_of(peer)?, *subnet));
        let is_a_peers = |route: &Route| peers.contains_key(&route.destination);
        let mut standing = Self {
            place,
            own,
            behind: peers.iter().filter_map(behind).collect(),
            addresses: wanted.addresses,
            others: wanted
                .routes
                .into_iter()
                .filter(|it| !is_a_peers(it))
                .collect(),
            foreign: BTreeMap::new(),
            unclear,
            peers,
        };
        standing.foreign = had
            .iter()
            .filter(|it| standing.is_foreign(it))
            .map(|it| ((it.destination, it.metric), it.clone()))
            .collect();
        standing
    }

    /// Where it stands.
    pub const fn place(&self) -> &Place {
        &self.place
    }

    /// How many peers there are.
    pub fn peers(&self) -> usize {
        self.peers.len()
    }

    /// The peers by their subnets.
    pub const fn by_subnet(&self) -> &BTreeMap<IpNetwork, Peer> {
        &self.peers
    }

    /// Whom tunnels of WireGuard lead to for subnets that change, before and after.
    pub fn keys(&self, changed: &ChangedPeers) -> BTreeSet<PublicKey> {
        let before = changed.keys().filter_map(|it| self.peers.get(it));
        let all = before.chain(changed.values().flatten());
        all.filter_map(|it| it.tunnel())
            .map(|(key, _)| key)
            .collect()
    }

    /// Whether there is a peer with a subnet.
    pub fn has(&self, subnet: IpNetwork) -> bool {
        self.peers.contains_key(&subnet)
    }

    /// Whether changes of peers can be told from what stands: nothing else has a say in their entries.
    pub fn can_tell(&self, changed: &ChangedPeers) -> bool {
        let mut gateways = BTreeSet::new();
        changed
            .keys()
            .all(|it| self.is_alone(it) && gateways.insert(it.network()))
    }

    fn is_alone(&self, subnet: &IpNetwork) -> bool {
        let with_prefix = |prefix| IpNetwork::new(subnet.network(), prefix);
        let max = self.place.family.max_prefix();
        let (Ok(shortest), Ok(longest)) = (with_prefix(0), with_prefix(max)) else {
            return false;
        };
        let mut same_gateway = self.peers.range(shortest..=longest);
        self.place.network.contains(subnet.network())
            && !self.unclear.contains(subnet)
            && self
                .foreign
                .range((*subnet, 0)..=(*subnet, u32::MAX))
                .next()
                .is_none()
            && same_gateway.all(|(it, _)| it == subnet)
    }

    /// Takes over changes of peers, and answers with what they change in the kernel.
    pub fn change(&mut self, changed: ChangedPeers) -> Vec<Change> {
        let subnets: Vec<_> = changed.keys().copied().collect();
        let before = subnets.iter().filter_map(|it| self.peers.get(it));
        let after = changed.values().flatten();
        let macs: BTreeSet<_> = before.chain(after).filter_map(mac_of).collect();
        let have = self.entries(&subnets, &macs);
        for (subnet, peer) in changed {
            self.set(subnet, peer);
        }
        diff(&have, &self.entries(&subnets, &macs), &self.place).changes
    }

    fn set(&mut self, subnet: IpNetwork, peer: Option<Peer>) {
        let mac = peer.as_ref().and_then(mac_of);
        let before = match peer {
            Some(peer) => self.peers.insert(subnet, peer),
            None => self.peers.remove(&subnet),
        };
        if let Some(mac) = before.as_ref().and_then(mac_of) {
            self.behind.remove(&(mac, subnet));
        }
        self.behind.extend(mac.map(|mac| (mac, subnet)));
    }

    fn entries(&self, subnets: &[IpNetwork], macs: &BTreeSet<Mac>) -> Tables {
        let peer = |subnet: &IpNetwork| Some((*subnet, self.peers.get(subnet)?));
        let peers = || subnets.iter().filter_map(peer);
        let route = |(subnet, peer): (IpNetwork, &Peer)| self.place.route_to(subnet, peer);
        let neighbour = |(subnet, peer): (IpNetwork, &Peer)| self.place.neighbour_of(subnet, peer);
        Tables {
            addresses: Vec::new(),
            neighbours: peers().filter_map(neighbour).collect(),
            fdb: macs.iter().filter_map(|mac| self.entry(*mac)).collect(),
            routes: peers().filter_map(route).collect(),
        }
    }

    /// Whether the device has this address.
    pub fn has_address(&self, address: &Address) -> bool {
        self.addresses.contains(address)
    }

    /// The route of ours to a destination.
    pub fn route(&self, destination: IpNetwork) -> Option<Route> {
        if let Some(peer) = self.peers.get(&destination) {
            return self.place.route_to(destination, peer);
        }
        let mut others = self.others.iter();
        others.find(|it| it.destination == destination).cloned()
    }

    /// The neighbour of an address.
    pub fn neighbour(&self, address: IpAddr) -> Option<Neighbour> {
        let with_prefix = |prefix| IpNetwork::new(address, prefix).ok();
        let all = with_prefix(0)?..=with_prefix(self.place.family.max_prefix())?;
        let (subnet, peer) = self.peers.range(all).next()?;
        self.place.neighbour_of(*subnet, peer)
    }

    /// The forwarding entry of an Ethernet address: that of the first subnet behind it.
    pub fn entry(&self, mac: Mac) -> Option<FdbEntry> {
        let any = IpNetwork::new(IpAddr::from([0; 4]), 0).ok()?;
        let (of, subnet) = self.behind.range((mac, any)..).next()?;
        let peer = self.peers.get(subnet).filter(|_| *of == mac)?;
        self.place.entry_of(mac, peer.address)
    }

    /// Whether a route was there that another program has made.
    pub fn knows_foreign(&self, route: &Route) -> bool {
        self.foreign
            .contains_key(&(route.destination, route.metric))
    }

    /// Whether a route is one of another program where a lease could ask for one. Those to pods of this node
    /// are not.
    pub fn is_foreign(&self, route: &Route) -> bool {
        let destination = route.destination.network();
        route.table == Route::MAIN
            && self.place.network.contains(destination)
            && !self.own.contains(destination)
            && !self.place.is_ours(route)
    }
}

fn mac_of(peer: &Peer) -> Option<Mac> {
    match peer.way {
        Way::Vxlan(mac) => Some(mac),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use kernel::{
        Family,
        route::{IfIndex, NextHop, Protocol},
    };
    use proptest::prelude::*;

    use super::*;
    use crate::plan::wanted;

    fn place() -> Place {
        Place {
            family: Family::V4,
            device: Some(IfIndex(7)),
            underlay: IfIndex(2),
            network: "10.5.0.0/16".parse().unwrap(),
            whole_network: false,
        }
    }

    fn subnet(octet: u8) -> IpNetwork {
        format!("10.5.{octet}.0/24").parse().unwrap()
    }

    fn peer(node: u8, mac: Option<u8>) -> Peer {
        Peer {
            address: format!("192.168.64.{node}").parse().unwrap(),
            way: mac.map_or(Way::Direct, |mac| Way::Vxlan(Mac([2, 0, 0, 0, 0, mac]))),
        }
    }

    fn peers(all: &BTreeMap<u8, Peer>) -> Peers {
        Peers {
            by_subnet: all.iter().map(|(it, peer)| (subnet(*it), *peer)).collect(),
            ..Peers::default()
        }
    }

    fn standing(all: &BTreeMap<u8, Peer>, had: &[Route]) -> (Standing, Tables) {
        let (peers, own) = (peers(all), subnet(1));
        let tables = wanted(&place(), own, &peers.by_subnet);
        let standing = Standing::new(place(), own, peers, tables.clone(), had);
        (standing, tables)
    }

    fn one(octet: u8, peer: Option<Peer>) -> ChangedPeers {
        [(subnet(octet), peer)].into_iter().collect()
    }

    #[test]
    fn a_changed_peer_costs_its_own_entries() {
        let all = (2..200).map(|it| (it, peer(it, Some(it)))).collect();
        let (mut standing, _) = standing(&all, &[]);
        let changes = standing.change(one(34, Some(peer(3, Some(34)))));
        let texts: Vec<_> = changes.iter().map(Change::to_string).collect();
        assert_eq!(
            texts,
            ["bridge fdb replace 02:00:00:00:00:22 dev if7 dst 192.168.64.3 self permanent"]
        );
        assert_eq!(standing.change(one(34, None)).len(), 3);
        assert_eq!(standing.change(one(34, None)), []);
        assert_eq!((standing.peers(), standing.has(subnet(34))), (197, false));
    }

    #[test]
    fn what_others_have_a_say_in_can_not_be_told() {
        let foreign = Route {
            destination: subnet(5),
            next_hop: NextHop::Link(IfIndex(3)),
            protocol: Protocol::STATIC,
            table: Route::MAIN,
            metric: 100,
            source: None,
        };
        let (mut standing, _) = standing(&BTreeMap::new(), std::slice::from_ref(&foreign));
        standing.unclear.insert(subnet(6));
        standing.change(one(7, Some(peer(7, Some(7)))));
        assert!(standing.knows_foreign(&foreign));
        let smaller: IpNetwork = "10.5.7.0/25".parse().unwrap();
        let elsewhere: IpNetwork = "10.9.7.0/24".parse().unwrap();
        for (subnets, can_tell) in [
            (&[subnet(4), subnet(7)][..], true),
            (&[subnet(5)], false),
            (&[subnet(4), subnet(6)], false),
            (&[smaller], false),
            (&["10.5.4.0/25".parse().unwrap(), subnet(4)], false),
            (&[elsewhere], false),
        ] {
            let changed = subnets.iter().map(|it| (*it, None)).collect();
            assert_eq!(standing.can_tell(&changed), can_tell, "{subnets:?}");
        }
    }

    prop_compose! {
        fn some_peers()(
            peers in prop::collection::btree_map(2..9u8, (1..5u8, prop::option::of(1..5u8)), 0..6)
        ) -> BTreeMap<u8, Peer> {
            peers.into_iter().map(|(octet, (node, mac))| (octet, peer(node, mac))).collect()
        }
    }

    proptest! {
        /// The same as a comparison of everything gives.
        #[test]
        fn changes_are_those_of_a_whole_comparison(before in some_peers(), after in some_peers()) {
            let (mut incremental, have) = standing(&before, &[]);
            let (whole, want) = standing(&after, &[]);
            let changed: ChangedPeers = (2..9)
                .filter(|it| before.get(it) != after.get(it))
                .map(|it| (subnet(it), after.get(&it).copied()))
                .collect();
            prop_assert!(incremental.can_tell(&changed));
            let changes = incremental.change(changed);
            prop_assert_eq!(&incremental, &whole);
            let sorted = |mut changes: Vec<Change>| {
                changes.sort_by_key(Change::to_string);
                changes
            };
            prop_assert_eq!(sorted(changes), sorted(diff(&have, &want, &place()).changes));
            for route in &want.routes {
                let found = whole.route(route.destination);
                prop_assert_eq!(found.as_ref(), Some(route));
            }
            for it in &want.neighbours {
                let found = whole.neighbour(it.address);
                prop_assert_eq!(found.as_ref(), Some(it));
            }
            for it in &want.fdb {
                let found = whole.entry(it.mac);
                prop_assert_eq!(found.as_ref(), Some(it));
            }
        }
    }
}
