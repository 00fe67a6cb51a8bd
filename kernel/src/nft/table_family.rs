//! The families of tables: more than there are of addresses.

use std::fmt;

use crate::Family;

/// The family of a table: which packets its chains see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TableFamily {
    /// `ip`: IPv4.
    Ip,
    /// `ip6`: IPv6.
    Ip6,
    /// `inet`: both.
    Inet,
    /// `bridge`: frames that cross a bridge, whatever is in them.
    Bridge,
}

// === impl TableFamily ===

impl TableFamily {
    /// Its name in nft(8).
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Inet => "inet",
            Self::Bridge => "bridge",
        }
    }

    /// `NFPROTO_*`.
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Ip => Family::V4.number(),
            Self::Ip6 => Family::V6.number(),
            Self::Inet => 1,
            Self::Bridge => 7,
        }
    }

    /// The family of all packets that its chains see; `None` where they see several.
    pub(super) const fn of_packets(self) -> Option<Family> {
        match self {
            Self::Ip => Some(Family::V4),
            Self::Ip6 => Some(Family::V6),
            Self::Inet | Self::Bridge => None,
        }
    }
}

impl From<Family> for TableFamily {
    fn from(family: Family) -> Self {
        match family {
            Family::V4 => Self::Ip,
            Family::V6 => Self::Ip6,
        }
    }
}

impl fmt::Display for TableFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
