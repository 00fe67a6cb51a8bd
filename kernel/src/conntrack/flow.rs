//! Tracked flows.

use std::{fmt, net::SocketAddr};

use crate::Family;

/// A transport protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// One direction of a flow: from where to where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tuple {
    /// Source address and port.
    pub source: SocketAddr,
    /// Destination address and port.
    pub destination: SocketAddr,
}

/// What has happened to a flow (`enum ip_conntrack_status` of `linux/netfilter/nf_conntrack_common.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Status(pub u32);

/// A tracked flow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// Its address family.
    pub family: Family,
    /// Its transport protocol.
    pub protocol: Protocol,
    /// Its first packet as it was sent.
    pub original: Tuple,
    /// An answer as it is expected: the reverse of the first packet after address translation.
    pub reply: Tuple,
    /// What has happened to it.
    pub status: Status,
    /// Its mark, 0 where it has none.
    pub mark: u32,
    /// Its zone, that of the original direction where only one has a zone; 0 as a rule.
    pub zone: u16,
    /// Tells it from a later flow with the same tuples, unless the kernel put that one into the very
    /// same place in memory, which the id is a hash of (`nf_ct_get_id`).
    pub id: u32,
    /// Seconds until it is forgotten if no packet comes.
    pub timeout: u32,
}

// === impl Protocol ===

impl Protocol {
    /// Every protocol.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// The number in the IP header.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

// === impl Status ===

impl Status {
    /// `IPS_SEEN_REPLY`: packets went both ways.
    pub const fn seen_reply(self) -> bool {
        self.0 & (1 << 1) != 0
    }

    /// `IPS_ASSURED`: not given up early when the table is full.
    pub const fn assured(self) -> bool {
        self.0 & (1 << 2) != 0
    }

    /// `IPS_SRC_NAT`: the source address or port is translated.
    pub const fn source_nat(self) -> bool {
        self.0 & (1 << 4) != 0
    }

    /// `IPS_DST_NAT`: the destination address or port is translated.
    pub const fn destination_nat(self) -> bool {
        self.0 & (1 << 5) != 0
    }

    /// `IPS_DYING`: being removed.
    pub const fn dying(self) -> bool {
        self.0 & (1 << 9) != 0
    }
}

// === impl Flow ===

/// As the options of conntrack(8) that choose it.
impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tuple {
            source,
            destination,
        } = self.original;
        let family = conntrack_name(self.family);
        write!(f, "-f {family} -p {}", self.protocol)?;
        write!(f, " -s {} -d {}", source.ip(), destination.ip())?;
        write!(
            f,
            " --sport {} --dport {}",
            source.port(),
            destination.port()
        )?;
        match self.zone {
            0 => Ok(()),
            zone => write!(f, " --zone {zone}"),
        }
    }
}

/// A family as conntrack(8) names it.
pub(super) const fn conntrack_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}
