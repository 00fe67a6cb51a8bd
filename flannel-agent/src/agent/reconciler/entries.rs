//! What leads to other nodes: the entries of devices, and routes.

use std::{collections::BTreeSet, net::IpAddr};

use kernel::{
    Family,
    route::{Change, IfIndex, NextHop, Route},
};
use nix::errno::Errno;

use super::{Error, Reconciler};
use crate::{
    model::Held,
    plan::{self, Peers, Place, Standing, Tables},
};

// === impl Reconciler ===

impl Reconciler {
    /// Brings in line what is in WireGuard devices, of which one may carry several families.
    pub(super) fn tunnels(&mut self, places: &[(&Place, Peers)]) -> Result<(), Error> {
        let all = places.iter().map(|(place, it)| (*place, &it.by_subnet));
        let devices = plan::tunnels(all, |_| true);
        for (device, (family, tunnels)) in &devices {
            if self.site.reconcile_tunnels(*device, *family, tunnels)? {
                tracing::info!("reconciled: WireGuard to {} nodes", tunnels.0.len());
            }
        }
        Ok(())
    }

    /// Brings in line what leads to other nodes.
    pub(super) fn tables(
        &mut self,
        place: &Place,
        held: &Held,
        mut peers: Peers,
        notices: &mut Vec<String>,
    ) -> Result<(), Error> {
        let Some(subnet) = held.key.subnet(place.family) else {
            return Ok(());
        };
        if self.site.routes_directly() {
            peers.route_directly(&self.on_link(peers.addresses(), place.underlay)?);
        }
        self.peer_changes.note(place.family, &peers.by_subnet);
        let mut want = plan::wanted(place, subnet, &peers.by_subnet);
        if self.blackhole {
            want.routes.push(plan::blackhole_route(subnet));
        }
        let have = self.standing(place)?;
        let diff = plan::diff(&have, &want, place);
        notices.append(&mut peers.skipped);
        notices.extend(diff.conflicts.iter().map(|route| {
            format!("route {route} is not this agent's and stays, though a lease has its destination; remove it")
        }));
        let programmed = peers.by_subnet.len().saturating_sub(diff.conflicts.len());
        self.apply(&diff.changes, notices)?;
        self.metrics.programmed(place.family, programmed);
        let standing = Standing::new(*place, subnet, peers, want, &have.routes);
        self.watched.standing.insert(place.family, standing);
        Ok(())
    }

    /// Those of the addresses that packets from here reach on the underlay's own link.
    pub(super) fn on_link(
        &mut self,
        addresses: BTreeSet<IpAddr>,
        underlay: IfIndex,
    ) -> Result<BTreeSet<IpAddr>, Error> {
        let mut on_link = BTreeSet::new();
        for address in addresses {
            let way = self.kernel.lookup(address)?;
            if way.is_some_and(|it| it.interface == underlay && it.gateway.is_none() && !it.local) {
                on_link.insert(address);
            }
        }
        Ok(on_link)
    }

    pub(super) fn standing(&mut self, place: &Place) -> Result<Tables, Error> {
        let routes = self.routes(place.family)?;
        let Some(interface) = place.device else {
            return Ok(Tables {
                routes,
                ..Tables::default()
            });
        };
        let mut addresses = self.kernel.addresses(Some(interface))?;
        addresses.retain(|address| Family::of_network(&address.address) == place.family);
        Ok(Tables {
            addresses,
            neighbours: self.kernel.neighbours(place.family, interface)?,
            fdb: self.kernel.fdb(interface)?,
            routes,
        })
    }

    /// The routes of a family. A kernel without IPv6 answers with those of IPv4.
    pub(super) fn routes(&mut self, family: Family) -> Result<Vec<Route>, Error> {
        let mut routes = self.kernel.routes(family)?;
        routes.retain(|route| Family::of_network(&route.destination) == family);
        Ok(routes)
    }

    /// Carries out all changes, whichever are refused. What is to be removed may be gone already, and a
    /// node that is not on the link does not hold up the others.
    pub(super) fn apply(
        &mut self,
        changes: &[Change],
        notices: &mut Vec<String>,
    ) -> Result<(), Error> {
        if changes.is_empty() {
            return Ok(());
        }
        self.count(changes);
        let outcomes = self.kernel.apply_each(changes)?;
        let (off_link, mut refusals): (Vec<_>, Vec<_>) = outcomes
            .into_iter()
            .zip(changes)
            .filter_map(|(outcome, change)| outcome.err().map(|error| (error, change)))
            .filter(|(error, change)| !(error.is_not_found() && removes(change)))
            .partition(|(error, change)| is_off_link(error, change));
        if let Some((first, _)) = off_link.first() {
            notices.push(format!(
                "nodes that are not on this node's link can't be reached: {} of them, the first: {first}",
                off_link.len()
            ));
        }
        if refusals.is_empty() {
            return Ok(());
        }
        Err(Error::Refused {
            refused: refusals.len(),
            all: changes.len(),
            first: refusals.swap_remove(0).0,
        })
    }

    pub(super) fn count(&self, changes: &[Change]) {
        for change in changes {
            self.metrics.changed(change, self.repairs);
        }
    }
}

const fn removes(change: &Change) -> bool {
    matches!(
        change,
        Change::DeleteAddress(_)
            | Change::DeleteRoute(_)
            | Change::DeleteNeighbour(_)
            | Change::DeleteFdb(_)
    )
}

/// Whether a route is refused for its gateway.
fn is_off_link(error: &kernel::Error, change: &Change) -> bool {
    let has_gateway = |route: &Route| matches!(route.next_hop, NextHop::Gateway { .. });
    matches!(change, Change::ReplaceRoute(route) if has_gateway(route))
        && matches!(
            error.errno(),
            Some(Errno::ENETUNREACH | Errno::EHOSTUNREACH)
        )
}
