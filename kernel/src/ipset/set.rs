//! Sets and their members.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, SocketAddr},
};

use ipnetwork::IpNetwork;

use super::Protocol;
use crate::Family;

/// The longest name that the kernel takes, in bytes (`IPSET_MAXNAMELEN` less its closing zero).
pub const NAME_MAX: usize = 31;
/// How many members the `ipset` command lets a set have.
pub const DEFAULT_MAX: u32 = 65536;

/// What members of a set are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `hash:ip`.
    Ip,
    /// `hash:ip,port`.
    IpPort,
    /// `hash:ip,port,ip`.
    IpPortIp,
    /// `hash:ip,port,net`.
    IpPortNet,
    /// `bitmap:port`, of all ports; of no family.
    Port,
}

/// What a set is, without its members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Definition {
    /// What its members are made of.
    pub kind: Kind,
    /// Of what family. Of no meaning to [`Kind::Port`].
    pub family: Family,
    /// How many members it can have at the most. Of no meaning to [`Kind::Port`].
    pub max: u32,
}

/// One member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Member {
    /// Of [`Kind::Ip`].
    Ip(IpAddr),
    /// Of [`Kind::IpPort`].
    IpPort(Protocol, SocketAddr),
    /// Of [`Kind::IpPortIp`].
    IpPortIp(Protocol, SocketAddr, IpAddr),
    /// Of [`Kind::IpPortNet`]; the kernel takes no prefix of length 0.
    IpPortNet(Protocol, SocketAddr, IpNetwork),
    /// Of [`Kind::Port`].
    Port(u16),
}

/// A set with its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// What it is.
    pub definition: Definition,
    /// Its members.
    pub members: BTreeSet<Member>,
}

/// A set as it stands in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObservedSet {
    /// One of a kind that is known here, without timeouts.
    Known(Set),
    /// Another one, or one with members that can't be understood.
    Other,
}

/// The name of a set that stands in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// The name of its type: `hash:ip,port` ...
    pub kind: String,
}

// === impl Kind ===

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::Ip,
        Self::IpPort,
        Self::IpPortIp,
        Self::IpPortNet,
        Self::Port,
    ];

    /// The name that the kernel knows it by.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ip => "hash:ip",
            Self::IpPort => "hash:ip,port",
            Self::IpPortIp => "hash:ip,port,ip",
            Self::IpPortNet => "hash:ip,port,net",
            Self::Port => "bitmap:port",
        }
    }

    /// The oldest revision of the type that has all that members here are made of: SCTP.
    pub(super) const fn revision(self) -> u8 {
        match self {
            Self::Ip | Self::Port => 0,
            Self::IpPort | Self::IpPortIp | Self::IpPortNet => 1,
        }
    }

    pub(super) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

// === impl Definition ===

impl Definition {
    /// A set with room for as many members as the `ipset` command makes it for.
    pub const fn new(kind: Kind, family: Family) -> Self {
        Self {
            kind,
            family,
            max: DEFAULT_MAX,
        }
    }

    /// Whether a set of this definition serves where another is wanted: it has at least as much room.
    pub fn serves_as(&self, wanted: &Self) -> bool {
        self.kind == wanted.kind
            && (self.kind == Kind::Port || self.family == wanted.family && self.max >= wanted.max)
    }
}

/// As the arguments of `ipset create`.
impl fmt::Display for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.family {
            Family::V4 => "inet",
            Family::V6 => "inet6",
        };
        match self.kind {
            Kind::Port => write!(f, "{} range 0-65535", self.kind),
            kind => write!(f, "{kind} family {family} maxelem {}", self.max),
        }
    }
}

// === impl Member ===

impl Member {
    /// The kind of the sets that it can be in.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Ip(_) => Kind::Ip,
            Self::IpPort(..) => Kind::IpPort,
            Self::IpPortIp(..) => Kind::IpPortIp,
            Self::IpPortNet(..) => Kind::IpPortNet,
            Self::Port(_) => Kind::Port,
        }
    }

    /// The family of its addresses, if it has any.
    pub fn family(&self) -> Option<Family> {
        match self {
            Self::Ip(ip) => Some(Family::of(ip)),
            Self::IpPort(_, socket)
            | Self::IpPortIp(_, socket, _)
            | Self::IpPortNet(_, socket, _) => Some(Family::of(&socket.ip())),
            Self::Port(_) => None,
        }
    }
}

/// As the arguments of `ipset add`.
impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = |f: &mut fmt::Formatter<'_>, protocol: &Protocol, socket: &SocketAddr| {
            write!(f, "{},{protocol}:{}", socket.ip(), socket.port())
        };
        match self {
            Self::Ip(ip) => write!(f, "{ip}"),
            Self::Port(port) => write!(f, "{port}"),
            Self::IpPort(protocol, socket) => first(f, protocol, socket),
            Self::IpPortIp(protocol, socket, ip) => {
                first(f, protocol, socket)?;
                write!(f, ",{ip}")
            }
            Self::IpPortNet(protocol, socket, network) => {
                first(f, protocol, socket)?;
                if network.prefix() == Family::of_network(network).max_prefix() {
                    return write!(f, ",{}", network.ip());
                }
                write!(f, ",{network}")
            }
        }
    }
}

// === impl Set ===

impl Set {
    /// One without members.
    pub const fn new(definition: Definition) -> Self {
        Self {
            definition,
            members: BTreeSet::new(),
        }
    }
}
