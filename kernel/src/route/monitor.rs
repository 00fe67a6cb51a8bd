//! Changes as they happen.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage as Message,
    link::LinkMessage,
    neighbour::NeighbourMessage,
    route::{RouteAttribute, RouteFlags, RouteMessage},
};

use super::{
    Address, AddressState, FdbEntry, IfIndex, Link, Neighbour, Route,
    handle::{TABLE_LOCAL, parse},
    route::ip,
};
use crate::{
    Error, Result,
    netlink::{self, Drained, Protocol},
    netns::Namespace,
};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

/// What to be told of; both address families each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Interfaces and bridge ports.
    Links,
    /// Addresses of interfaces.
    Addresses,
    /// Routes, but those of the table `local`.
    Routes,
    /// Neighbours and forwarding entries.
    Neighbours,
}

/// A change of one of the kernel's tables, whoever made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An interface was made or changed; the kernel announces both alike.
    LinkChanged(Link),
    /// An interface is gone. Its addresses, neighbours and **IPv4 routes go with it unannounced**, as
    /// do the IPv4 routes of an interface that goes down.
    LinkRemoved(Link),
    /// A bridge port's settings or VLANs changed, or it left its bridge: read it again.
    BridgePortChanged(IfIndex),
    /// An address was added, or its lifetime or state changed.
    AddressChanged(AddressState),
    /// An address is gone; IPv4 routes that prefer it as source go with it unannounced.
    AddressRemoved(Address),
    /// A route was made, or replaced the one with its destination, table and metric.
    RouteChanged(Route),
    /// A route is gone.
    RouteRemoved(Route),
    /// A route to this destination was made or removed that [`Route`] can't express (several next
    /// hops, unreachable); it may have replaced one that it can.
    OtherRoute(IpNetwork),
    /// A neighbour was made, or changed its state or Ethernet address.
    NeighbourChanged(Neighbour),
    /// A neighbour is gone.
    NeighbourRemoved(Neighbour),
    /// A forwarding entry with a destination was made or changed.
    FdbChanged(FdbEntry),
    /// A forwarding entry with a destination is gone.
    FdbRemoved(FdbEntry),
    /// Announcements were lost: read everything again. It comes alone.
    Resync,
}

/// Tells what changes in a network namespace. It never blocks: wait until it is readable
/// (`tokio::io::unix::AsyncFd`, poll(2)), then take the [`Monitor::events`].
///
/// Open it *before* reading the tables, so that nothing falls between the two.
#[derive(Debug)]
pub struct Monitor {
    inner: netlink::Monitor,
}

// === impl Topic ===

impl Topic {
    /// Every topic.
    pub const ALL: [Self; 4] = [Self::Links, Self::Addresses, Self::Routes, Self::Neighbours];

    /// `enum rtnetlink_groups` of `linux/rtnetlink.h`.
    fn groups(self) -> &'static [u32] {
        match self {
            Self::Links => &[1],
            Self::Neighbours => &[3],
            Self::Addresses => &[5, 9],
            Self::Routes => &[7, 11],
        }
    }
}

// === impl Monitor ===

impl Monitor {
    /// Watches the calling thread's network namespace.
    pub fn open(topics: &[Topic]) -> Result<Self> {
        let groups: Vec<u32> = topics
            .iter()
            .flat_map(|topic| topic.groups())
            .copied()
            .collect();
        netlink::Monitor::open(Protocol::Route, &groups)
            .map(|inner| Self { inner })
            .map_err(|error| Error::new(format!("ip monitor {topics:?}"), error))
    }

    /// Watches another network namespace.
    pub fn open_in(namespace: &Namespace, topics: &[Topic]) -> Result<Self> {
        namespace.run(|| Self::open(topics))?
    }

    /// Everything that happened since the last time, in order, without waiting.
    pub fn events(&mut self) -> Result<Vec<Event>> {
        let drained = self
            .inner
            .drain()
            .map_err(|error| Error::new("ip monitor", error))?;
        Ok(match drained {
            Drained::Overrun => vec![Event::Resync],
            Drained::Messages(replies) => replies
                .iter()
                .filter_map(parse)
                .filter_map(Event::from_message)
                .collect(),
        })
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> RawFd {
        self.inner.as_raw_fd()
    }
}

// === impl Event ===

impl Event {
    /// `None` for what this crate has no words for.
    fn from_message(message: Message) -> Option<Self> {
        match message {
            Message::NewLink(it) => Self::link(&it, Self::LinkChanged),
            Message::DelLink(it) => Self::link(&it, Self::LinkRemoved),
            Message::NewAddress(it) => AddressState::from_message(&it).map(Self::AddressChanged),
            Message::DelAddress(it) => Address::from_message(&it).map(Self::AddressRemoved),
            Message::NewRoute(it) => Self::route(&it, Self::RouteChanged),
            Message::DelRoute(it) => Self::route(&it, Self::RouteRemoved),
            Message::NewNeighbour(it) => {
                Self::neighbour(&it, Self::NeighbourChanged, Self::FdbChanged)
            }
            Message::DelNeighbour(it) => {
                Self::neighbour(&it, Self::NeighbourRemoved, Self::FdbRemoved)
            }
            _ => None,
        }
    }

    /// A bridge announces its ports by link messages of its own family, also when one leaves it.
    fn link(message: &LinkMessage, event: fn(Link) -> Self) -> Option<Self> {
        match message.header.interface_family {
            AddressFamily::Unspec => Link::from_message(message).map(event),
            AddressFamily::Bridge => Some(Self::BridgePortChanged(IfIndex(message.header.index))),
            _ => None,
        }
    }

    fn route(message: &RouteMessage, event: fn(Route) -> Self) -> Option<Self> {
        if table(message) == TABLE_LOCAL || message.header.flags.contains(RouteFlags::Cloned) {
            return None;
        }
        match Route::from_message(message) {
            Some(route) => Some(event(route)),
            None => destination(message).map(Self::OtherRoute),
        }
    }

    fn neighbour(
        message: &NeighbourMessage,
        neighbour: fn(Neighbour) -> Self,
        fdb: fn(FdbEntry) -> Self,
    ) -> Option<Self> {
        match message.header.family {
            AddressFamily::Bridge => FdbEntry::from_message(message).map(fdb),
            AddressFamily::Inet | AddressFamily::Inet6 => {
                Neighbour::from_message(message).map(neighbour)
            }
            _ => None,
        }
    }
}

fn table(message: &RouteMessage) -> u32 {
    let mut attributes = message.attributes.iter();
    attributes
        .find_map(|attribute| match attribute {
            RouteAttribute::Table(table) => Some(*table),
            _ => None,
        })
        .unwrap_or_else(|| message.header.table.into())
}

/// `None` for other families than IP.
fn destination(message: &RouteMessage) -> Option<IpNetwork> {
    let any = match message.header.address_family {
        AddressFamily::Inet => IpAddr::from([0; 4]),
        AddressFamily::Inet6 => IpAddr::from([0; 16]),
        _ => return None,
    };
    let address = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Destination(address) => ip(address),
            _ => None,
        });
    IpNetwork::new(
        address.unwrap_or(any),
        message.header.destination_prefix_length,
    )
    .ok()
}
