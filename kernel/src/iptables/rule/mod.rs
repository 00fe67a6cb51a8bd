//! Rules as values: those that can be written for nf_tables without a program.
//!
//! [`text`] reads them from the words of `iptables-restore` and prints them as `iptables-save` does; [`expressions`]
//! makes of them what `iptables-nft` 1.8.8 and later makes.

mod expressions;
mod info;
mod text;
mod words;

use std::net::SocketAddr;

use ipnetwork::IpNetwork;

pub use words::words;

/// A rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rule {
    /// `-s`.
    pub source: Option<Maybe<IpNetwork>>,
    /// `-d`.
    pub destination: Option<Maybe<IpNetwork>>,
    /// `-i`: a name, or with `+` how one begins.
    pub input: Option<Maybe<String>>,
    /// `-p`: a protocol's number.
    pub protocol: Option<u8>,
    /// `-m`, in their order.
    pub matches: Vec<Match>,
    /// `-j`.
    pub target: Option<Target>,
}

/// Something that is to be so, or with `!` not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Maybe<T> {
    pub negated: bool,
    pub value: T,
}

/// A match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Match {
    /// `comment`.
    Comment(String),
    /// `tcp`, `udp` or `sctp`, with the first and last destination port if there are any.
    Ports(Transport, Option<(u16, u16)>),
    /// `statistic --mode random`: of 2^31.
    Statistic(u32),
    /// `recent --set` for the list of a name.
    Remember(String),
    /// `recent --rcheck` in the list of a name.
    Remembered {
        name: String,
        seconds: u32,
        reap: bool,
    },
    /// `addrtype`: an address of the node, of the source rather than the destination.
    Local { source: bool },
    /// `mark`.
    Mark {
        negated: bool,
        value: u32,
        mask: u32,
    },
    /// `conntrack --ctstate`: a bit per state.
    State { negated: bool, states: u16 },
    /// `nfacct`: counts in the object of a name.
    Account(String),
}

/// A protocol that has ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp = 6,
    Udp = 17,
    Sctp = 132,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Accept,
    Drop,
    Return,
    Jump(String),
    /// `MARK`: `mark = (mark & !mask) ^ value`.
    Mark {
        value: u32,
        mask: u32,
    },
    Masquerade {
        fully_random: bool,
    },
    Dnat(SocketAddr),
    /// `REJECT`: the port is not reachable.
    Reject,
}

// === impl Transport ===

impl Transport {
    const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }
}

/// The states of `--ctstate`, with their bits: `XT_CONNTRACK_STATE_*`.
const STATES: [(&str, u16); 7] = [
    ("INVALID", 1),
    ("NEW", 8),
    ("RELATED", 4),
    ("ESTABLISHED", 2),
    ("UNTRACKED", 0x100),
    ("SNAT", 0x40),
    ("DNAT", 0x80),
];
