//! Entries and the ways between them.

use kernel::{
    Family,
    route::{Change, IfIndex, NextHop, Protocol},
};
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
        Change::ReplaceFdb(it) => match tables.fdb.iter_mut().find(|other| other.mac == it.mac) {
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
