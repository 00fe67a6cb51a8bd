//! The way into the kernel.

use std::{fmt::Display, net::IpAddr};

use netlink_packet_core::ParseableParametrized;
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::AddressMessage,
    link::{LinkAttribute, LinkExtentMask, LinkMessage},
    neighbour::{NeighbourAttribute, NeighbourMessage},
    route::RouteMessage,
};

use nix::errno::Errno;

use super::{
    Address, AddressState, Change, FdbEntry, IfIndex, Link, LinkDetails, Lookup, Neighbour,
    PortVlanChange, PortVlans, Route, RouteOptions, family, request,
};
use crate::{
    Error, Family, IfName, Result,
    netlink::{self, Reply, Request, Socket},
};

/// The table of the node's own addresses.
pub(super) const TABLE_LOCAL: u32 = 255;

/// Reads and changes the tables of one network namespace.
#[derive(Debug)]
pub struct Handle {
    socket: Socket,
}

// === impl Handle ===

netlink::opens!(Handle, Route);

impl Handle {
    /// Every interface.
    pub fn links(&mut self) -> Result<Vec<Link>> {
        let mut message = LinkMessage::default();
        message.attributes.push(without_statistics());
        let messages = self.dump("ip link show", &RouteNetlinkMessage::GetLink(message))?;
        Ok(messages.iter().filter_map(as_link).collect())
    }

    /// Every interface that has an alias, with it.
    pub fn aliased_links(&mut self) -> Result<Vec<(Link, String)>> {
        let mut message = LinkMessage::default();
        message.attributes.push(without_statistics());
        let messages = self.dump("ip link show", &RouteNetlinkMessage::GetLink(message))?;
        let aliased = messages.iter().filter_map(|message| {
            let RouteNetlinkMessage::NewLink(message) = message else {
                return None;
            };
            let alias = LinkDetails::from_message(message).alias?;
            Some((Link::from_message(message)?, alias))
        });
        Ok(aliased.collect())
    }

    /// The interface of a name, if there is one.
    pub fn link_by_name(&mut self, name: &IfName) -> Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message
            .attributes
            .push(LinkAttribute::IfName(name.to_string()));
        self.link(format!("ip link show {name}"), message)
    }

    /// The interface of an index, if there is one.
    pub fn link_by_index(&mut self, index: IfIndex) -> Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.header.index = index.0;
        self.link(format!("ip link show {index}"), message)
    }

    /// Every address, of one interface or of all.
    pub fn addresses(&mut self, interface: Option<IfIndex>) -> Result<Vec<Address>> {
        let messages = self.dump_addresses(interface)?;
        Ok(messages
            .iter()
            .filter_map(Address::from_message)
            .filter(|address| interface.is_none_or(|index| address.interface == index))
            .collect())
    }

    /// Every address with its lifetimes and state, of one interface or of all.
    pub fn address_states(&mut self, interface: Option<IfIndex>) -> Result<Vec<AddressState>> {
        let messages = self.dump_addresses(interface)?;
        Ok(messages
            .iter()
            .filter_map(AddressState::from_message)
            .filter(|it| interface.is_none_or(|index| it.address.interface == index))
            .collect())
    }

    /// Every unicast and blackhole route of a family with one next hop at the most, in all tables but
    /// `local`.
    pub fn routes(&mut self, of: Family) -> Result<Vec<Route>> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(of);
        let messages = self.dump("ip route show", &RouteNetlinkMessage::GetRoute(message))?;
        Ok(messages
            .iter()
            .filter_map(|message| match message {
                RouteNetlinkMessage::NewRoute(message) => Route::from_message(message),
                _ => None,
            })
            .filter(|route| route.table != TABLE_LOCAL)
            .collect())
    }

    /// Every unicast and blackhole route of a family as the kernel shows it, with its options: one for each
    /// next hop, in all tables but `local`.
    pub fn next_hops(&mut self, of: Family) -> Result<Vec<(Route, RouteOptions)>> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(of);
        let messages = self.dump("ip route show", &RouteNetlinkMessage::GetRoute(message))?;
        let routes = messages.iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewRoute(message) => Some(message),
            _ => None,
        });
        Ok(routes
            .flat_map(|message| {
                let options = RouteOptions::from(message);
                let each = Route::each_from_message(message).into_iter();
                each.map(move |route| (route, options))
            })
            .filter(|(route, _)| route.table != TABLE_LOCAL)
            .collect())
    }

    /// Every neighbour of a family on an interface.
    pub fn neighbours(&mut self, of: Family, interface: IfIndex) -> Result<Vec<Neighbour>> {
        let messages = self.dump_neighbours("ip neigh show", family(of), interface)?;
        Ok(messages
            .iter()
            .filter_map(Neighbour::from_message)
            .filter(|neighbour| neighbour.interface == interface)
            .collect())
    }

    /// Every forwarding entry of a VXLAN device that has a destination.
    pub fn fdb(&mut self, interface: IfIndex) -> Result<Vec<FdbEntry>> {
        let messages = self.dump_neighbours("bridge fdb show", AddressFamily::Bridge, interface)?;
        Ok(messages
            .iter()
            .filter_map(FdbEntry::from_message)
            .filter(|entry| entry.interface == interface)
            .collect())
    }

    /// Carries out changes, many in one system call; answers with the outcome of each in their order.
    /// A refused change does not keep the later ones from being carried out.
    pub fn apply_each(&mut self, changes: &[Change]) -> Result<Vec<Result<()>>> {
        let requests: Vec<_> = changes.iter().map(Change::to_request).collect();
        self.apply_requests(changes, &requests)
    }

    /// Carries out changes; fails with the first refusal, when all have been tried.
    pub fn apply(&mut self, changes: &[Change]) -> Result<()> {
        self.apply_each(changes)?.into_iter().collect()
    }

    /// How many changes were sent so far.
    pub fn sent(&self) -> u64 {
        self.socket.sent()
    }

    /// What else there is to know of an interface, if there is one of that index.
    pub fn link_details(&mut self, index: IfIndex) -> Result<Option<LinkDetails>> {
        let mut message = LinkMessage::default();
        message.header.index = index.0;
        let message = self.link_message(format!("ip -d link show {index}"), message)?;
        Ok(message.as_ref().map(LinkDetails::from_message))
    }

    /// Where a packet to an address would go; `None` if there is no route, or one that drops it.
    pub fn lookup(&mut self, address: IpAddr) -> Result<Option<Lookup>> {
        let message = RouteNetlinkMessage::GetRoute(Lookup::request(address));
        match self.socket.get(&request(&message, 0)) {
            Ok(replies) => Ok(replies.iter().filter_map(parse).find_map(|it| match it {
                RouteNetlinkMessage::NewRoute(message) => Lookup::from_message(&message),
                _ => None,
            })),
            Err(error) if leads_nowhere(error.errno()) => Ok(None),
            Err(error) => Err(Error::new(format!("ip route get {address}"), error)),
        }
    }

    /// Every VLAN that a bridge or a port is a member of, ranges together.
    pub fn port_vlans(&mut self) -> Result<Vec<(IfIndex, PortVlans)>> {
        let mut message = LinkMessage::default();
        message.header.interface_family = AddressFamily::Bridge;
        message.attributes = vec![LinkAttribute::ExtMask(vec![
            LinkExtentMask::BrvlanCompressed,
        ])];
        let messages = self.dump("bridge vlan show", &RouteNetlinkMessage::GetLink(message))?;
        Ok(messages
            .iter()
            .filter_map(|message| match message {
                RouteNetlinkMessage::NewLink(message) => Some(message),
                _ => None,
            })
            .flat_map(PortVlans::from_message)
            .collect())
    }

    /// Changes the VLANs of bridges and ports; fails with the first refusal, when all have been tried.
    pub fn apply_port_vlans(&mut self, changes: &[PortVlanChange]) -> Result<()> {
        let requests: Vec<_> = changes.iter().map(|it| it.to_request()).collect();
        self.apply_requests(changes, &requests)?
            .into_iter()
            .collect()
    }

    fn link(&mut self, attempted: String, message: LinkMessage) -> Result<Option<Link>> {
        let message = self.link_message(attempted, message)?;
        Ok(message.as_ref().and_then(Link::from_message))
    }

    fn link_message(
        &mut self,
        attempted: String,
        mut message: LinkMessage,
    ) -> Result<Option<LinkMessage>> {
        message.attributes.push(without_statistics());
        let message = request(&RouteNetlinkMessage::GetLink(message), 0);
        match self
            .socket
            .get(&message)
            .map_err(|error| Error::new(attempted, error))
        {
            Ok(replies) => Ok(replies
                .iter()
                .filter_map(parse)
                .find_map(|message| match message {
                    RouteNetlinkMessage::NewLink(message) => Some(message),
                    _ => None,
                })),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends the requests of changes; answers with the outcome of each, named by its change.
    fn apply_requests<T: Display>(
        &mut self,
        changes: &[T],
        requests: &[Request],
    ) -> Result<Vec<Result<()>>> {
        let outcomes = self
            .socket
            .batch(requests)
            .map_err(|error| Error::new(format!("apply {} route changes", changes.len()), error))?;
        Ok(outcomes
            .into_iter()
            .zip(changes)
            .map(|(outcome, change)| outcome.map_err(|error| Error::new(change.to_string(), error)))
            .collect())
    }

    fn dump_addresses(&mut self, interface: Option<IfIndex>) -> Result<Vec<AddressMessage>> {
        let mut message = AddressMessage::default();
        message.header.index = interface.map_or(0, |index| index.0);
        let messages = self.dump("ip address show", &RouteNetlinkMessage::GetAddress(message))?;
        Ok(messages
            .into_iter()
            .filter_map(|message| match message {
                RouteNetlinkMessage::NewAddress(message) => Some(message),
                _ => None,
            })
            .collect())
    }

    fn dump_neighbours(
        &mut self,
        attempted: &str,
        family: AddressFamily,
        interface: IfIndex,
    ) -> Result<Vec<NeighbourMessage>> {
        let mut message = NeighbourMessage::default();
        message.header.family = family;
        if family == AddressFamily::Bridge {
            message.header.ifindex = interface.0;
        } else {
            message
                .attributes
                .push(NeighbourAttribute::IfIndex(interface.0));
        }
        let messages = self.dump(attempted, &RouteNetlinkMessage::GetNeighbour(message))?;
        Ok(messages
            .into_iter()
            .filter_map(|message| match message {
                RouteNetlinkMessage::NewNeighbour(message) => Some(message),
                _ => None,
            })
            .collect())
    }

    fn dump(
        &mut self,
        attempted: &str,
        message: &RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>> {
        let replies = self
            .socket
            .dump(&request(message, 0))
            .map_err(|error| Error::new(attempted, error))?;
        Ok(replies.iter().filter_map(parse).collect())
    }
}

/// `None` for what can't be parsed: an object of a kind or a kernel that this crate does not know is
/// no object of ours.
pub(super) fn parse(reply: &Reply) -> Option<RouteNetlinkMessage> {
    RouteNetlinkMessage::parse_with_param(&reply.body, reply.kind).ok()
}

fn as_link(message: &RouteNetlinkMessage) -> Option<Link> {
    match message {
        RouteNetlinkMessage::NewLink(message) => Link::from_message(message),
        _ => None,
    }
}

/// The refusals by which the kernel says that no route leads to an address, or one that drops packets.
fn leads_nowhere(errno: Option<Errno>) -> bool {
    use Errno::{EACCES, EHOSTUNREACH, EINVAL, ENETUNREACH};
    matches!(errno, Some(ENETUNREACH | EHOSTUNREACH | EACCES | EINVAL))
}

/// Statistics are most of what the kernel would tell of a link.
fn without_statistics() -> LinkAttribute {
    LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])
}
