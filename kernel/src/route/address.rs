//! Addresses of interfaces.

use ipnetwork::IpNetwork;

use super::IfIndex;

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
}
