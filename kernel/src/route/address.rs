//! Addresses of interfaces.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};

use super::{IfIndex, family};
use crate::Family;

/// An address of an interface, global in scope unless the kernel shows it otherwise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// The interface.
    pub interface: IfIndex,
    /// The address with its prefix length; host bits are kept.
    pub address: IpNetwork,
    /// `scope link` or narrower (as fe80::/64): not for talking beyond the link.
    pub link_local: bool,
    /// IPv6: skip duplicate address detection (`IFA_F_NODAD`). Not shown for IPv4.
    pub no_dad: bool,
    /// `IFA_F_PERMANENT`: not from a router advertisement or DHCP with a lifetime.
    pub permanent: bool,
}

// === impl Address ===

impl Address {
    /// A permanent global address, without duplicate address detection for IPv6: for addresses
    /// that an allocator gave out, so that they are known to be unique.
    pub fn global(interface: IfIndex, address: IpNetwork) -> Self {
        Self {
            interface,
            address,
            link_local: false,
            no_dad: address.is_ipv6(),
            permanent: true,
        }
    }

    pub(super) fn to_message(&self) -> AddressMessage {
        let ip = self.address.ip();
        let mut message = AddressMessage::default();
        message.header.family = family(Family::of(&ip));
        message.header.prefix_len = self.address.prefix();
        message.header.index = self.interface.0;
        message.header.scope = if self.link_local {
            AddressScope::Link
        } else {
            AddressScope::Universe
        };
        message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
        if self.no_dad {
            message.header.flags = AddressHeaderFlags::Nodad;
            message
                .attributes
                .push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        message
    }

    /// `None` for what is not an address with a prefix.
    pub(super) fn from_message(message: &AddressMessage) -> Option<Self> {
        let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
        let (mut local, mut address) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Local(ip) => local = Some(*ip),
                AddressAttribute::Address(ip) => address = Some(*ip),
                AddressAttribute::Flags(all) => flags = *all,
                _ => {}
            }
        }
        let ip: IpAddr = local.or(address)?;
        Some(Self {
            interface: IfIndex(message.header.index),
            address: IpNetwork::new(ip, message.header.prefix_len).ok()?,
            link_local: message.header.scope != AddressScope::Universe,
            no_dad: ip.is_ipv6() && flags.contains(AddressFlags::Nodad),
            permanent: flags.contains(AddressFlags::Permanent),
        })
    }
}
