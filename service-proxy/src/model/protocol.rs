//! Transport protocols.

use std::{fmt, str::FromStr};

/// A transport protocol that a Service can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// The text is no transport protocol that a Service can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("protocol {0:?} is none of TCP, UDP, SCTP")]
pub struct UnknownProtocol(String);

// === impl Protocol ===

impl Protocol {
    /// Its number in the IP header (IANA's "Protocol Numbers").
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The protocol of a number in the IP header; `None` for those that no Service has.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Tcp, Self::Udp, Self::Sctp]
            .into_iter()
            .find(|protocol| protocol.number() == number)
    }
}

impl FromStr for Protocol {
    type Err = UnknownProtocol;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "TCP" => Ok(Self::Tcp),
            "UDP" => Ok(Self::Udp),
            "SCTP" => Ok(Self::Sctp),
            _ => Err(UnknownProtocol(text.to_owned())),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn text_and_number() {
        for (text, number) in [("TCP", 6), ("UDP", 17), ("SCTP", 132)] {
            let protocol: Protocol = text.parse().unwrap();
            assert_eq!(
                (protocol.to_string().as_str(), protocol.number()),
                (text, number)
            );
            assert_eq!(Protocol::from_number(number), Some(protocol));
        }
        assert_eq!(
            "tcp".parse::<Protocol>(),
            Err(UnknownProtocol("tcp".into()))
        );
    }
}
