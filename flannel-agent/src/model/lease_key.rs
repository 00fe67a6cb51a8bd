//! The name of a lease in etcd (spec 1.4): the key below `<prefix>/subnets/`.

use std::{fmt, str::FromStr};

use ipnetwork::IpNetwork;
use kernel::Family;

use super::ByFamily;

/// The subnets that a lease is for: `10.5.34.0-24`, or `10.5.34.0-24&fd00:12:13::-56` where the node has
/// one of each family. That of IPv6 alone is `fd00:12:13::-56`, which flanneld has no form for: it wants
/// an IPv4 subnet in each, and leaves out what has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseKey(ByFamily<IpNetwork>);

/// A name that is not that of a lease.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not the name of a lease: want as 10.5.34.0-24, 10.5.34.0-24&fd00:12:13::-56 or fd00:12:13::-56"
)]
pub struct InvalidLeaseKey(pub String);

// === impl LeaseKey ===

impl LeaseKey {
    /// The subnet of a family.
    pub fn subnet(&self, family: Family) -> Option<IpNetwork> {
        self.0.get(family).copied()
    }

    /// All its subnets.
    pub const fn subnets(&self) -> &ByFamily<IpNetwork> {
        &self.0
    }
}

impl From<ByFamily<IpNetwork>> for LeaseKey {
    fn from(subnets: ByFamily<IpNetwork>) -> Self {
        Self(subnets)
    }
}

impl FromStr for LeaseKey {
    type Err = InvalidLeaseKey;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let parts = match name.split_once('&') {
            Some((ipv4, ipv6)) => vec![(Family::V4, ipv4), (Family::V6, ipv6)],
            None if name.contains(':') => vec![(Family::V6, name)],
            None => vec![(Family::V4, name)],
        };
        parts
            .into_iter()
            .map(|(family, text)| Some((family, subnet(family, text)?)))
            .collect::<Option<ByFamily<_>>>()
            .map(Self)
            .ok_or_else(|| InvalidLeaseKey(name.to_owned()))
    }
}

impl fmt::Display for LeaseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (_, subnet)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "&" };
            write!(f, "{separator}{}-{}", subnet.ip(), subnet.prefix())?;
        }
        Ok(())
    }
}

/// A subnet as flannel writes it: no host bits, no leading zeros, more than one address, and not the
/// whole address space.
fn subnet(family: Family, text: &str) -> Option<IpNetwork> {
    let (address, prefix) = text.split_once('-')?;
    let network = IpNetwork::new(address.parse().ok()?, prefix.parse().ok()?).ok()?;
    let canonical = Family::of_network(&network) == family
        && network.ip() == network.network()
        && (1..family.max_prefix()).contains(&network.prefix())
        && format!("{}-{}", network.ip(), network.prefix()) == text;
    canonical.then_some(network)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_round_trips() {
        for name in [
            "10.5.34.0-24",
            "10.5.34.0-24&fd00:12:13::-56",
            "10.5.34.4-30&fc00::-126",
            "fd00:12:13::-56",
        ] {
            let key: LeaseKey = name.parse().unwrap();
            assert_eq!(key.to_string(), name);
        }
        let key: LeaseKey = "10.5.34.0-24&fd00:12:13::-56".parse().unwrap();
        assert_eq!(
            key.subnet(Family::V4),
            Some("10.5.34.0/24".parse().unwrap())
        );
        assert_eq!(
            key.subnet(Family::V6),
            Some("fd00:12:13::/56".parse().unwrap())
        );
    }

    #[test]
    fn refuses_other_texts() {
        for name in [
            "",
            "10.5.34.0",
            "10.5.34.0/24",
            "10.5.34.0-24&",
            "&fd00::-56",
            "fd00::-56&10.5.34.0-24",
            "fd00::-56&",
            "::-0",
            "10.5.34.0-24&10.6.0.0-24",
            "10.5.34.0-32",
            "10.5.34.0-0",
            "0.0.0.0-0",
            "10.5.34.0-024",
            "10.5.34.0-+24",
            "10.5.34.7-24",
            "010.5.34.0-24",
            "x10.5.34.0-24",
            "10.5.34.0-24x",
            "10.5.34.0-24&fd00:12:13::1-56",
            "10.5.34.0-24&FD00::-56",
            "10.5.34.0-24&fd00::-128",
            "old/10.5.34.0-24",
        ] {
            assert_eq!(name.parse::<LeaseKey>(), Err(InvalidLeaseKey(name.into())));
        }
    }

    proptest! {
        #[test]
        fn what_parses_round_trips(name in r"[0-9.]{7,12}-[0-9]{1,3}(&[0-9a-f:]{2,20}-[0-9]{1,3})?|.{0,30}") {
            if let Ok(key) = name.parse::<LeaseKey>() {
                prop_assert_eq!(key.to_string(), name);
            }
        }

        #[test]
        fn every_key_is_read(
            v4: u32,
            v4_prefix in 1..32u8,
            v6: u128,
            v6_prefix in 1..128u8,
            families in 1..4u8,
        ) {
            let network = |ip: IpAddr, prefix| {
                let network = IpNetwork::new(ip, prefix).unwrap().network();
                (Family::of(&network), IpNetwork::new(network, prefix).unwrap())
            };
            let v4 = (families & 1 != 0).then(|| network(Ipv4Addr::from(v4).into(), v4_prefix));
            let v6 = (families & 2 != 0).then(|| network(Ipv6Addr::from(v6).into(), v6_prefix));
            let key = LeaseKey(v4.into_iter().chain(v6).collect());
            prop_assert_eq!(key.to_string().parse(), Ok(key));
        }
    }
}
