//! What is not there for a peer to be reached.

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;
use kernel::route::Change;

use super::{Peer, TableDiff, Way};

/// By the subnets of peers, what has to be added for them, in the words of iproute2.
pub fn missing(
    peers: &BTreeMap<IpNetwork, Peer>,
    diff: &TableDiff,
) -> BTreeMap<IpNetwork, Vec<String>> {
    let mut all = BTreeMap::<_, Vec<_>>::new();
    let of = |belongs: &dyn Fn(&IpNetwork, &Peer) -> bool| {
        let mut subnets = peers.iter();
        subnets.find_map(|(subnet, peer)| belongs(subnet, peer).then_some(*subnet))
    };
    for change in &diff.changes {
        let subnet = match change {
            Change::ReplaceRoute(route) => of(&|subnet, _| *subnet == route.destination),
            Change::ReplaceNeighbour(it) => of(&|subnet, _| subnet.network() == it.address),
            Change::ReplaceFdb(entry) => of(&|_, peer| peer.way == Way::Vxlan(entry.mac)),
            _ => None,
        };
        if let Some(subnet) = subnet {
            all.entry(subnet).or_default().push(change.to_string());
        }
    }
    for route in &diff.conflicts {
        if let Some(subnet) = of(&|subnet, _| *subnet == route.destination) {
            let text = format!("route {route} of another program is in the way");
            all.entry(subnet).or_default().push(text);
        }
    }
    all
}
