//! Virtual and real servers.

use std::{fmt, net::SocketAddr};

use super::Protocol;
use crate::Family;

/// What clients connect to, and what names a virtual server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VirtualAddress {
    /// The protocol.
    pub protocol: Protocol,
    /// Address and port.
    pub socket: SocketAddr,
}

/// A virtual server, without its real servers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VirtualServer {
    /// What names it.
    pub address: VirtualAddress,
    /// The name of what chooses the real server of a connection: `rr`, `wlc` ...
    pub scheduler: String,
    /// How it does.
    pub flags: Flags,
    /// With [`Flags::PERSISTENT`], how many seconds a client keeps its real server after its last connection.
    pub timeout: u32,
    /// With [`Flags::PERSISTENT`], the prefix length of the networks that count as one client; not 0.
    pub client_prefix: u8,
}

/// Bits of a virtual server (`IP_VS_SVC_F_`), but for `HASHED`, which the kernel keeps for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flags(pub u32);

/// A real server of a virtual one. Its address, of the virtual server's family, and port name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RealServer {
    /// Address and port.
    pub socket: SocketAddr,
    /// How packets get there.
    pub forwarding: Forwarding,
    /// Its share of connections beside the others'; 0: it gets no new ones.
    pub weight: u32,
    /// From so many connections on it gets no new ones; 0: never.
    pub upper_threshold: u32,
    /// From so few connections on it gets new ones again; 0: three quarters of the upper threshold.
    pub lower_threshold: u32,
}

/// A real server as the kernel shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObservedReal {
    /// What it is.
    pub server: RealServer,
    /// How many connections are established (of UDP: all).
    pub active: u32,
    /// How many connections are beginning or ending.
    pub inactive: u32,
    /// How many clients keep it.
    pub persistent: u32,
}

/// How packets get to a real server (`IP_VS_CONN_F_FWD_MASK`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Forwarding {
    /// By translation of their destination (`Masq`).
    Translation,
    /// Not at all: the node itself has the address.
    Local,
    /// By a tunnel.
    Tunnel,
    /// As they are, by the Ethernet address (`Route`).
    DirectRouting,
    /// Past the virtual server.
    Bypass,
}

/// How many seconds the kernel remembers a connection that no packet comes of; 0: unchanged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// An established TCP connection.
    pub tcp: u32,
    /// A TCP connection that one side has ended.
    pub tcp_fin: u32,
    /// A UDP flow.
    pub udp: u32,
}

// === impl VirtualAddress ===

impl VirtualAddress {
    /// Its family.
    pub fn family(&self) -> Family {
        Family::of(&self.socket.ip())
    }
}

/// As the options of ipvsadm(8).
impl fmt::Display for VirtualAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let option = match self.protocol {
            Protocol::Tcp => "-t",
            Protocol::Udp => "-u",
            Protocol::Sctp => "--sctp-service",
        };
        write!(f, "{option} {}", self.socket)
    }
}

// === impl VirtualServer ===

impl fmt::Display for VirtualServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -s {}", self.address, self.scheduler)?;
        if self.flags.has(Flags::PERSISTENT) {
            write!(f, " -p {}", self.timeout)?;
            if self.client_prefix != self.address.family().max_prefix() {
                write!(f, " -M /{}", self.client_prefix)?;
            }
        }
        if self.flags.has(Flags::ONE_PACKET) {
            f.write_str(" -o")?;
        }
        for (name, flag) in (1..).zip(Flags::SCHEDULER) {
            if self.flags.has(flag) {
                write!(f, " -b flag-{name}")?;
            }
        }
        Ok(())
    }
}

// === impl Flags ===

impl Flags {
    /// A client keeps its real server.
    pub const PERSISTENT: Self = Self(0x0001);
    /// The kernel has it in its tables.
    pub(super) const HASHED: Self = Self(0x0002);
    /// Each packet (of UDP) is a connection of its own.
    pub const ONE_PACKET: Self = Self(0x0004);
    /// What each means is a matter of the scheduler.
    pub const SCHEDULER: [Self; 3] = [Self(0x0008), Self(0x0010), Self(0x0020)];
    /// Of `sh` and `mh`: where the real server gets no new connections, another is taken.
    pub const HASH_FALLBACK: Self = Self::SCHEDULER[0];
    /// Of `sh` and `mh`: the client's port counts too.
    pub const HASH_PORT: Self = Self::SCHEDULER[1];

    /// Whether all bits of others are set.
    pub const fn has(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// The bits of both.
    pub const fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }
}

// === impl RealServer ===

impl RealServer {
    /// One that packets are translated for, without thresholds.
    pub const fn translated(socket: SocketAddr, weight: u32) -> Self {
        Self {
            socket,
            forwarding: Forwarding::Translation,
            weight,
            upper_threshold: 0,
            lower_threshold: 0,
        }
    }
}

impl fmt::Display for RealServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "-r {}", self.socket)?;
        f.write_str(match self.forwarding {
            Forwarding::Translation => " -m",
            Forwarding::Tunnel => " -i",
            Forwarding::Local | Forwarding::DirectRouting | Forwarding::Bypass => " -g",
        })?;
        write!(f, " -w {}", self.weight)?;
        for (option, threshold) in [("-x", self.upper_threshold), ("-y", self.lower_threshold)] {
            if threshold != 0 {
                write!(f, " {option} {threshold}")?;
            }
        }
        Ok(())
    }
}

// === impl Forwarding ===

impl Forwarding {
    const ALL: [Self; 5] = [
        Self::Translation,
        Self::Local,
        Self::Tunnel,
        Self::DirectRouting,
        Self::Bypass,
    ];

    pub(super) const fn number(self) -> u32 {
        self as u32
    }

    pub(super) fn from_number(number: u32) -> Option<Self> {
        let mask = 7;
        Self::ALL
            .into_iter()
            .find(|method| method.number() == number & mask)
    }
}

// === impl ObservedReal ===

impl ObservedReal {
    /// Whether a connection of it is remembered.
    pub const fn is_in_use(&self) -> bool {
        self.active > 0 || self.inactive > 0
    }
}
