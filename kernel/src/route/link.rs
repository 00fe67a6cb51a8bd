//! Network interfaces.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    os::fd::RawFd,
};

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
    /// An IPv4 in IPv4 tunnel.
    Ipip(Ipip),
    /// A VLAN of the interface below it.
    Vlan(Vlan),
    /// A WireGuard tunnel.
    Wireguard,
    /// A device that drops everything.
    Dummy,
    /// An intermediate functional block: shapes what other interfaces receive.
    Ifb,
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

/// The parameters of an IPv4 in IPv4 tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ipip {
    /// Source address of tunnelled packets; any where it is `None`.
    pub local: Option<Ipv4Addr>,
    /// The other end; each route's gateway where it is `None`.
    pub remote: Option<Ipv4Addr>,
    /// The device that tunnelled packets leave by; each packet's route chooses it where it is `None`.
    pub parent: Option<IfIndex>,
    /// Whether tunnelled packets may not be fragmented, so that senders learn the path's MTU.
    pub path_mtu_discovery: bool,
}

/// The parameters of a VLAN device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vlan {
    /// VLAN identifier, 1 to 4094.
    pub id: u16,
    /// The interface that carries it, by its index in that interface's namespace.
    pub parent: IfIndex,
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
    /// One end of a virtual Ethernet pair, whose other end is made in the same step. Both have one queue.
    Veth(VethPeer),
    /// A VXLAN tunnel endpoint.
    Vxlan(Vxlan),
    /// An IPv4 in IPv4 tunnel.
    Ipip(Ipip),
    /// A VLAN of the interface below it.
    Vlan(Vlan),
    /// A WireGuard tunnel, without keys and peers yet.
    Wireguard,
    /// A device that drops everything.
    Dummy,
    /// An intermediate functional block.
    Ifb,
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
///
/// The settings of a bridge port are refused (EOPNOTSUPP) for what is not a port yet: set `master` by a
/// change of its own before them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkSettings {
    /// Administratively up or down.
    pub up: Option<bool>,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// Ethernet address.
    pub mac: Option<Mac>,
    /// The bridge that it becomes a port of; index 0 takes it out of the one that it is in.
    pub master: Option<IfIndex>,
    /// For a bridge port: whether frames may leave by the port that they came in by.
    pub hairpin: Option<bool>,
    /// For a bridge port: whether it may talk to those ports only that are not isolated.
    pub isolated: Option<bool>,
    /// For a bridge port: whether the bridge learns addresses from received frames.
    pub learning: Option<bool>,
    /// For a bridge: whether ports see those VLANs only that they are members of.
    pub vlan_filtering: Option<bool>,
    /// Whether it receives frames that are for others.
    pub promiscuous: Option<bool>,
    /// Whether it receives every multicast frame.
    pub all_multicast: Option<bool>,
    /// Length of its transmit queue in packets.
    pub tx_queue_len: Option<u32>,
    /// Its alias: a text for people and programs that the kernel keeps, at most 255 bytes; empty to remove it.
    pub alias: Option<String>,
    /// A new name. Kernels before 6.2 rename no interface that is up.
    pub name: Option<IfName>,
    /// The namespace that it moves to, as an open file descriptor of this process. It arrives down,
    /// and without addresses and routes.
    pub namespace: Option<RawFd>,
}

/// The UDP port of VXLAN where none is named: the kernel's, not the one that IANA gave later.
pub(super) const VXLAN_PORT: u16 = 8472;

// === impl NewLink ===

impl NewLink {
    /// An interface that is down, with the addresses and the MTU that the kernel chooses.
    pub const fn new(name: IfName, kind: NewLinkKind) -> Self {
        Self {
            name,
            kind,
            mac: None,
            mtu: None,
            up: false,
            master: None,
        }
    }
}

// === impl VethPeer ===

impl VethPeer {
    /// An end with the address and the MTU that the kernel chooses, in a namespace that is an open file
    /// descriptor of this process, or beside the first one.
    pub const fn new(name: IfName, namespace: Option<RawFd>) -> Self {
        Self {
            name,
            namespace,
            mac: None,
            mtu: None,
        }
    }
}

// === impl IfIndex ===

impl fmt::Display for IfIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "if{}", self.0)
    }
}
