//! Neighbours (ARP, NDP) and forwarding entries of VXLAN devices.

use std::net::IpAddr;

use netlink_packet_route::{
    AddressFamily,
    neighbour::{
        NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
    },
};

use super::{IfIndex, family};
use crate::{Family, Mac};

/// A neighbour: which Ethernet address an IP address on a link has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Neighbour {
    /// The link.
    pub interface: IfIndex,
    /// Its IP address.
    pub address: IpAddr,
    /// Its Ethernet address; `None` while or because it is not resolved.
    pub mac: Option<Mac>,
    /// `NUD_PERMANENT`: put there, neither learned nor forgotten by the kernel.
    pub permanent: bool,
}

/// A forwarding entry of a VXLAN device: behind which tunnel endpoint an Ethernet address is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FdbEntry {
    /// The VXLAN device.
    pub interface: IfIndex,
    /// The Ethernet address of the remote device.
    pub mac: Mac,
    /// The remote tunnel endpoint.
    pub destination: IpAddr,
    /// `NUD_PERMANENT`: put there, neither learned nor aged.
    pub permanent: bool,
}

// === impl Neighbour ===

impl Neighbour {
    pub(super) fn to_message(&self) -> NeighbourMessage {
        let mut message = message(self.interface, self.permanent);
        message.header.family = family(Family::of(&self.address));
        message
            .attributes
            .push(NeighbourAttribute::Destination(self.address.into()));
        if let Some(mac) = self.mac {
            message
                .attributes
                .push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
        }
        message
    }

    pub(super) fn from_message(message: &NeighbourMessage) -> Option<Self> {
        let (mac, address) = mac_and_address(message);
        Some(Self {
            interface: IfIndex(message.header.ifindex),
            address: address?,
            mac,
            permanent: message.header.state == NeighbourState::Permanent,
        })
    }
}

// === impl FdbEntry ===

impl FdbEntry {
    pub(super) fn to_message(&self) -> NeighbourMessage {
        let mut message = message(self.interface, self.permanent);
        message.header.family = AddressFamily::Bridge;
        message.header.flags = NeighbourFlags::Own;
        message.attributes = vec![
            NeighbourAttribute::LinkLayerAddress(self.mac.0.to_vec()),
            NeighbourAttribute::Destination(self.destination.into()),
        ];
        message
    }

    /// `None` for entries without a destination, as those of bridges.
    pub(super) fn from_message(message: &NeighbourMessage) -> Option<Self> {
        let (mac, address) = mac_and_address(message);
        Some(Self {
            interface: IfIndex(message.header.ifindex),
            mac: mac?,
            destination: address?,
            permanent: message.header.state == NeighbourState::Permanent,
        })
    }
}

fn message(interface: IfIndex, permanent: bool) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = interface.0;
    message.header.state = if permanent {
        NeighbourState::Permanent
    } else {
        NeighbourState::Reachable
    };
    message
}

fn mac_and_address(message: &NeighbourMessage) -> (Option<Mac>, Option<IpAddr>) {
    let (mut mac, mut address) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                mac = bytes.as_slice().try_into().map(Mac).ok();
            }
            NeighbourAttribute::Destination(destination) => address = ip(destination),
            _ => {}
        }
    }
    (mac, address)
}

/// A forwarding entry's destination comes untyped: the message's family is the bridge's.
fn ip(address: &NeighbourAddress) -> Option<IpAddr> {
    match address {
        NeighbourAddress::Inet(ip) => Some((*ip).into()),
        NeighbourAddress::Inet6(ip) => Some((*ip).into()),
        NeighbourAddress::Other(bytes) => <[u8; 4]>::try_from(bytes.as_slice())
            .map(IpAddr::from)
            .or_else(|_| <[u8; 16]>::try_from(bytes.as_slice()).map(IpAddr::from))
            .ok(),
        _ => None,
    }
}
