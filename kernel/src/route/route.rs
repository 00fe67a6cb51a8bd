//! Routes.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::IfIndex;

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
}
