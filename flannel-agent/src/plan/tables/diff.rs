//! How to get from what stands to what should stand.

use std::collections::{BTreeMap, BTreeSet};

use ipnetwork::IpNetwork;
use kernel::{
    Mac,
    route::{Address, Change, FdbEntry, Protocol, Route},
};

use super::{Place, Tables, place::has_our_number};

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

/// Whether a route that stands is what flannel writes for the same purpose.
fn is_flannels_own(found: &Route, wanted: &Route) -> bool {
    found.protocol == Protocol::BOOT && found.next_hop == wanted.next_hop
}
