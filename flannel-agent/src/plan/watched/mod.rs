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
mod tests;
