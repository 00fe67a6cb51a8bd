//! Network interfaces.

use std::{fmt, net::IpAddr, os::fd::RawFd};

use crate::{IfName, Mac, Vni};

/// The index of an interface in its network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IfIndex(pub u32);

/// An interface as the kernel shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: IfIndex,
    /// Its name.
    pub name: IfName,
    /// Its Ethernet address; `None` for devices without one of six bytes.
    pub mac: Option<Mac>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Whether it is administratively up (`IFF_UP`).
    pub up: bool,
    /// Whether it is operational (`IFF_LOWER_UP`: it has a carrier).
    pub carrier: bool,
    /// Whether it is the loopback device.
    pub loopback: bool,
    /// The bridge that it is a port of.
    pub master: Option<IfIndex>,
    /// `IFLA_LINK`: the device below it, or for a veth the index of its peer *in the peer's namespace*.
    pub parent: Option<IfIndex>,
    /// What it is.
    pub kind: LinkKind,
    /// For a bridge port: whether frames may leave by the port that they came in by.
    pub hairpin: Option<bool>,
}

/// What an interface is, with the parameters that make it what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// An Ethernet bridge.
    Bridge,
    /// One end of a virtual Ethernet pair.
    Veth,
    /// A VXLAN tunnel endpoint.
    Vxlan(Vxlan),
    /// Anything else: `IFLA_INFO_KIND`, empty for physical devices and loopback.
    Other(String),
}

/// The parameters of a VXLAN device that can't be changed while it exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vxlan {
    /// Network identifier.
    pub vni: Vni,
    /// The device that tunnelled packets leave by.
    pub parent: Option<IfIndex>,
    /// Source address of tunnelled packets.
    pub local: Option<IpAddr>,
    /// UDP destination port.
    pub port: u16,
    /// Whether forwarding entries are learned from received packets.
    pub learning: bool,
    /// Group based policy extension.
    pub gbp: bool,
}

/// An interface to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLink {
    /// Its name.
    pub name: IfName,
    /// What it is to be.
    pub kind: NewLinkKind,
    /// Its Ethernet address; the kernel chooses one at random where it is `None`.
    pub mac: Option<Mac>,
    /// Its MTU in bytes; the kernel's default where it is `None`.
    pub mtu: Option<u32>,
    /// Whether it is made administratively up.
    pub up: bool,
    /// The bridge that it becomes a port of.
    pub master: Option<IfIndex>,
}

/// What an interface is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewLinkKind {
    /// An Ethernet bridge.
    Bridge,
    /// One end of a virtual Ethernet pair, whose other end is made in the same step.
    Veth(VethPeer),
    /// A VXLAN tunnel endpoint.
    Vxlan(Vxlan),
}

/// The other end of a new virtual Ethernet pair. It is made down: the kernel brings no end up before both
/// exist (`veth_open` answers ENOTCONN).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VethPeer {
    /// Its name.
    pub name: IfName,
    /// The namespace that it is made in, as an open file descriptor of this process; the same one as
    /// the first end's where it is `None`.
    pub namespace: Option<RawFd>,
    /// Its Ethernet address; the kernel chooses one at random where it is `None`.
    pub mac: Option<Mac>,
    /// Its MTU in bytes.
    pub mtu: Option<u32>,
}

/// Changes to an interface; what is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkSettings {
    /// Administratively up or down.
    pub up: Option<bool>,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// Ethernet address.
    pub mac: Option<Mac>,
    /// The bridge that it becomes a port of.
    pub master: Option<IfIndex>,
    /// For a bridge port: whether frames may leave by the port that they came in by.
    pub hairpin: Option<bool>,
}

/// The UDP port of VXLAN where none is named: the kernel's, not the one that IANA gave later.
pub(super) const VXLAN_PORT: u16 = 8472;

// === impl IfIndex ===

impl fmt::Display for IfIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "if{}", self.0)
    }
}
