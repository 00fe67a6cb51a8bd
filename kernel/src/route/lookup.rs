//! Which way a packet would take.

use std::net::IpAddr;

use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteType, RouteVia};

use super::{IfIndex, family, route::ip};
use crate::Family;

/// The kernel's answer to where a packet would go (`ip route get`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// The interface that it leaves by. For one of the node's own addresses IPv4 says loopback, IPv6
    /// the interface that has it.
    pub interface: IfIndex,
    /// The gateway; `None` if the address is on the link.
    pub gateway: Option<IpAddr>,
    /// The source address that the kernel would choose.
    pub source: Option<IpAddr>,
    /// Whether the address is one of the node's own.
    pub local: bool,
}

// === impl Lookup ===

impl Lookup {
    pub(super) fn request(address: IpAddr) -> RouteMessage {
        let of = Family::of(&address);
        let mut message = RouteMessage::default();
        message.header.address_family = family(of);
        message.header.destination_prefix_length = of.max_prefix();
        message.attributes = vec![RouteAttribute::Destination(address.into())];
        message
    }

    /// `None` for answers that lead nowhere (blackhole).
    pub(super) fn from_message(message: &RouteMessage) -> Option<Self> {
        let (mut interface, mut gateway, mut source) = (None, None, None);
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Oif(index) => interface = Some(IfIndex(*index)),
                RouteAttribute::Gateway(address) => gateway = ip(address),
                RouteAttribute::Via(RouteVia::Inet(address)) => gateway = Some((*address).into()),
                RouteAttribute::Via(RouteVia::Inet6(address)) => gateway = Some((*address).into()),
                RouteAttribute::PrefSource(address) => source = ip(address),
                _ => {}
            }
        }
        Some(Self {
            interface: interface?,
            gateway,
            source,
            local: message.header.kind == RouteType::Local,
        })
    }
}
