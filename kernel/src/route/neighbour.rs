//! Neighbours (ARP, NDP) and forwarding entries of VXLAN devices.

use std::net::IpAddr;

use super::IfIndex;
use crate::Mac;

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
