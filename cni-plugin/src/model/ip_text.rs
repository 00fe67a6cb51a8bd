//! Addresses in configuration, taken as Go's `net` package takes them.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use kernel::Family;
use serde::{Deserialize, Deserializer};

const EVERYWHERE_V4: Ipv4Network = match Ipv4Network::new_checked(Ipv4Addr::UNSPECIFIED, 0) {
    Some(network) => network,
    None => unreachable!(),
};
const EVERYWHERE_V6: Ipv6Network = match Ipv6Network::new_checked(Ipv6Addr::UNSPECIFIED, 0) {
    Some(network) => network,
    None => unreachable!(),
};

/// An address with its prefix length, `10.1.2.3/24`; host bits are kept. The length is required and a
/// number: no netmask, no bare address.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr(pub IpNetwork);

/// A text that is no address with a prefix length.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid CIDR address: {0}")]
pub struct InvalidCidr(String);

// === impl Cidr ===

impl Cidr {
    /// The network without host bits.
    pub fn masked(self) -> Self {
        let network = IpNetwork::new(self.0.network(), self.0.prefix());
        Self(network.unwrap_or(self.0))
    }

    /// Everything of a family: `0.0.0.0/0` or `::/0`.
    pub fn default_of(family: Family) -> Self {
        Self(match family {
            Family::V4 => IpNetwork::V4(EVERYWHERE_V4),
            Family::V6 => IpNetwork::V6(EVERYWHERE_V6),
        })
    }
}

impl FromStr for Cidr {
    type Err = InvalidCidr;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (address, prefix) = text.split_once('/')?;
            if !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            IpNetwork::new(address.parse().ok()?, prefix.parse().ok()?).ok()
        };
        parse()
            .map(Self)
            .ok_or_else(|| InvalidCidr(text.to_owned()))
    }
}

impl TryFrom<String> for Cidr {
    type Error = InvalidCidr;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.to_string()
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// For serde: an address that may be missing, `null` or empty.
pub(super) fn optional_address<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<IpAddr>, D::Error> {
    match Option::<String>::deserialize(deserializer)?.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => text
            .parse()
            .map(|address: IpAddr| Some(address.to_canonical()))
            .map_err(|_| serde::de::Error::custom(format!("invalid IP address: {text}"))),
    }
}

/// A requested address: plain, or with a prefix length that is of no interest.
pub(super) fn requested_address(text: &str) -> Result<IpAddr, InvalidCidr> {
    text.parse()
        .or_else(|_| text.parse().map(|Cidr(cidr)| cidr.ip()))
        .map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cidr_has_a_prefix_length_and_keeps_its_host_bits() {
        let cidr: Cidr = "10.1.17.3/24".parse().unwrap();
        assert_eq!(cidr.to_string(), "10.1.17.3/24");
        assert_eq!(cidr.masked().to_string(), "10.1.17.0/24");
        assert_eq!(
            "fd00::1/64".parse::<Cidr>().unwrap().masked().to_string(),
            "fd00::/64"
        );
        for text in [
            "",
            "10.1.2.3",
            "10.1.2.0/255.255.255.0",
            "10.1.2.0/33",
            "10.1.2.0/+4",
            "10.1.2.0/",
            "x/24",
        ] {
            assert!(text.parse::<Cidr>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_requested_address_is_plain_or_with_a_length() {
        for text in ["10.1.2.3", "10.1.2.3/24", "::ffff:10.1.2.3"] {
            assert_eq!(
                requested_address(text).unwrap().to_string(),
                "10.1.2.3",
                "{text}"
            );
        }
        assert!(requested_address("ten").is_err());
    }
}
