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

/// An address with what time does to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressState {
    /// The address.
    pub address: Address,
    /// `IFA_F_TEMPORARY`: a privacy address of IPv6 (RFC 8981), soon replaced by another. IPv4 says by
    /// the same bit that the address is a further one of its network, and it is not set here then.
    pub temporary: bool,
    /// Not for new connections any more: its preferred lifetime is over.
    pub deprecated: bool,
    /// IPv6: duplicate address detection is going on; it can't be used yet.
    pub tentative: bool,
    /// IPv6: another node has it; it can't be used.
    pub dad_failed: bool,
    /// Seconds for which it is preferred for new connections; `None`: for ever.
    pub preferred_seconds: Option<u32>,
    /// Seconds until it is removed; `None`: never.
    pub valid_seconds: Option<u32>,
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
        let flags = flags(message);
        let (mut local, mut address) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Local(ip) => local = Some(*ip),
                AddressAttribute::Address(ip) => address = Some(*ip),
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

// === impl AddressState ===

impl AddressState {
    /// `None` for what is not an address with a prefix.
    pub(super) fn from_message(message: &AddressMessage) -> Option<Self> {
        let address = Address::from_message(message)?;
        let flags = flags(message);
        let lifetimes = message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                AddressAttribute::CacheInfo(info) => Some((info.ifa_preferred, info.ifa_valid)),
                _ => None,
            });
        let (preferred, valid) = lifetimes.unwrap_or((u32::MAX, u32::MAX));
        let finite = |seconds: u32| (seconds != u32::MAX).then_some(seconds);
        Some(Self {
            temporary: address.address.is_ipv6() && flags.contains(AddressFlags::Secondary),
            deprecated: flags.contains(AddressFlags::Deprecated),
            tentative: flags.contains(AddressFlags::Tentative),
            dad_failed: flags.contains(AddressFlags::Dadfailed),
            preferred_seconds: finite(preferred),
            valid_seconds: finite(valid),
            address,
        })
    }
}

/// Eight flags fit the header; kernels that know more have them all in an attribute.
fn flags(message: &AddressMessage) -> AddressFlags {
    let mut attributes = message.attributes.iter();
    attributes
        .find_map(|attribute| match attribute {
            AddressAttribute::Flags(all) => Some(*all),
            _ => None,
        })
        .unwrap_or_else(|| AddressFlags::from_bits_retain(message.header.flags.bits().into()))
}
