//! Routes.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteScope, RouteType,
};

use super::{IfIndex, family};
use crate::Family;

/// Who put a route into the table (`rtm_protocol`, `/etc/iproute2/rt_protos`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(pub u8);

/// A unicast or blackhole route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Where to, without host bits.
    pub destination: IpNetwork,
    /// Which way.
    pub next_hop: NextHop,
    /// Who made it.
    pub protocol: Protocol,
    /// The routing table, 254 (main) as a rule.
    pub table: u32,
    /// `RTA_PRIORITY`: the lower wins. 0 where there is none (IPv6 then shows 1024).
    pub metric: u32,
    /// Preferred source address.
    pub source: Option<IpAddr>,
}

/// Which way a route leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NextHop {
    /// The destination is on the interface's own link.
    Link(IfIndex),
    /// Through a gateway on an interface.
    Gateway {
        /// The gateway.
        gateway: IpAddr,
        /// The interface.
        interface: IfIndex,
        /// Take the gateway to be on the link though no route says so.
        onlink: bool,
    },
    /// Packets are dropped silently.
    Blackhole,
}

// === impl Protocol ===

impl Protocol {
    /// Made by the kernel (`proto kernel`).
    pub const KERNEL: Self = Self(2);
    /// The protocol number that `ip route add` writes (`proto boot`).
    pub const BOOT: Self = Self(3);
    /// Made by an administrator (`proto static`).
    pub const STATIC: Self = Self(4);
}

// === impl Route ===

impl Route {
    /// The main routing table.
    pub const MAIN: u32 = 254;

    /// The interface that packets leave by.
    pub fn interface(&self) -> Option<IfIndex> {
        match self.next_hop {
            NextHop::Link(interface) | NextHop::Gateway { interface, .. } => Some(interface),
            NextHop::Blackhole => None,
        }
    }

    pub(super) fn to_message(&self) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.address_family = family(Family::of_network(&self.destination));
        message.header.destination_prefix_length = self.destination.prefix();
        message.header.protocol = self.protocol.0.into();
        message.header.kind = RouteType::Unicast;
        message.attributes = vec![
            RouteAttribute::Destination(self.destination.ip().into()),
            RouteAttribute::Table(self.table),
        ];
        match self.next_hop {
            NextHop::Link(interface) => {
                message.header.scope = RouteScope::Link;
                message.attributes.push(RouteAttribute::Oif(interface.0));
            }
            NextHop::Gateway {
                gateway,
                interface,
                onlink,
            } => {
                message.header.flags.set(RouteFlags::Onlink, onlink);
                message
                    .attributes
                    .push(RouteAttribute::Gateway(gateway.into()));
                message.attributes.push(RouteAttribute::Oif(interface.0));
            }
            NextHop::Blackhole => message.header.kind = RouteType::BlackHole,
        }
        if self.metric != 0 {
            message
                .attributes
                .push(RouteAttribute::Priority(self.metric));
        }
        if let Some(source) = self.source {
            message
                .attributes
                .push(RouteAttribute::PrefSource(source.into()));
        }
        message
    }

    /// A route for each next hop; none for other types.
    pub(super) fn each_from_message(message: &RouteMessage) -> Vec<Self> {
        let several = message.attributes.iter().find_map(|it| match it {
            RouteAttribute::MultiPath(next_hops) => Some(next_hops),
            _ => None,
        });
        let Some(several) = several else {
            return Self::from_message(message).into_iter().collect();
        };
        let mut common = message.clone();
        common
            .attributes
            .retain(|it| !matches!(it, RouteAttribute::MultiPath(_)));
        let single = several.iter().filter_map(|next_hop| {
            let mut message = common.clone();
            let interface = RouteAttribute::Oif(next_hop.interface_index);
            message.attributes.push(interface);
            message.attributes.extend(next_hop.attributes.clone());
            Self::from_message(&message)
        });
        single.collect()
    }

    /// `None` for routes of other types, with several next hops, or with a gateway of the other family.
    pub(super) fn from_message(message: &RouteMessage) -> Option<Self> {
        let (mut destination, mut gateway, mut interface, mut source) = (None, None, None, None);
        let (mut table, mut metric) = (u32::from(message.header.table), 0);
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(address) => destination = Some(ip(address)?),
                RouteAttribute::Gateway(address) => gateway = Some(ip(address)?),
                RouteAttribute::PrefSource(address) => source = Some(ip(address)?),
                RouteAttribute::Oif(index) => interface = Some(IfIndex(*index)),
                RouteAttribute::Table(id) => table = *id,
                RouteAttribute::Priority(priority) => metric = *priority,
                RouteAttribute::MultiPath(_) | RouteAttribute::NhId(_) | RouteAttribute::Via(_) => {
                    return None;
                }
                _ => {}
            }
        }
        let next_hop = match (message.header.kind, gateway, interface) {
            (RouteType::Unicast, Some(gateway), Some(interface)) => NextHop::Gateway {
                gateway,
                interface,
                onlink: message.header.flags.contains(RouteFlags::Onlink),
            },
            (RouteType::Unicast, None, Some(interface)) => NextHop::Link(interface),
            (RouteType::BlackHole, ..) => NextHop::Blackhole,
            _ => return None,
        };
        let any = match message.header.address_family {
            netlink_packet_route::AddressFamily::Inet6 => IpAddr::from([0; 16]),
            _ => IpAddr::from([0; 4]),
        };
        let prefix = message.header.destination_prefix_length;
        Some(Self {
            destination: IpNetwork::new(destination.unwrap_or(any), prefix).ok()?,
            next_hop,
            protocol: Protocol(message.header.protocol.into()),
            table,
            metric,
            source,
        })
    }
}

pub(super) fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}
