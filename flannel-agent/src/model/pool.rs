//! The subnets of one family that nodes can lease.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnetwork::IpNetwork;
use kernel::Family;

/// A network cut into equal subnets, of which those between two bounds are for leasing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    network: IpNetwork,
    subnet_len: u8,
    /// Number of the first subnet for leasing, counted from the start of the network.
    first: u128,
    /// Number of the last one.
    last: u128,
}

/// Why a network configuration describes no pool. The texts are flannel's (spec 1.1), where it has one,
/// with the offending value added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPool {
    /// The network is too small to be cut.
    #[error("{} is too small. Minimum useful network prefix is /{} (it is {network})",
        match .network { IpNetwork::V4(_) => "network", IpNetwork::V6(_) => "IPv6Network" },
        smallest_network(Family::of_network(.network)))]
    NetworkTooSmall {
        /// The network.
        network: IpNetwork,
    },
    /// The subnets are too small.
    #[error("SubnetLen must be less than /{} ({}SubnetLen is {len})",
        smallest_subnet(*.family) + 1, Prefixed(*.family))]
    SubnetTooSmall {
        /// The family.
        family: Family,
        /// `SubnetLen`.
        len: u8,
    },
    /// The network has not room for four subnets, the least that is useful as the first is not leased.
    #[error("network must be able to accommodate at least four subnets ({}SubnetLen is {len} in {network})",
        Prefixed(Family::of_network(.network)))]
    SubnetTooLarge {
        /// The network.
        network: IpNetwork,
        /// `SubnetLen`.
        len: u8,
    },
    /// A bound is outside the network.
    #[error("{}Subnet{bound} is not in the range of the {}Network ({address} is not in {network})",
        Prefixed(Family::of_network(.network)), Prefixed(Family::of_network(.network)))]
    BoundOutside {
        /// `Min` or `Max`.
        bound: &'static str,
        /// The bound.
        address: IpAddr,
        /// The network.
        network: IpNetwork,
    },
    /// A bound is not the first address of a subnet.
    #[error("{}Subnet{bound} is not on a SubnetLen boundary: {address}", Prefixed(Family::of(.address)))]
    BoundUnaligned {
        /// `Min` or `Max`.
        bound: &'static str,
        /// The bound.
        address: IpAddr,
    },
    /// The lower bound is above the upper one.
    #[error("{}SubnetMin {min} is above {}SubnetMax {max}", Prefixed(Family::of(.min)), Prefixed(Family::of(.min)))]
    BoundsCrossed {
        /// The lower bound.
        min: IpAddr,
        /// The upper bound.
        max: IpAddr,
    },
}

/// Prints what the configuration's keys of a family begin with.
struct Prefixed(Family);

// === impl Pool ===

impl Pool {
    /// A pool by the rules and defaults of spec 1.1; `len` 0 and unspecified bounds count as absent, as
    /// with flannel.
    pub fn new(
        network: IpNetwork,
        len: u8,
        min: Option<IpAddr>,
        max: Option<IpAddr>,
    ) -> Result<Self, InvalidPool> {
        let subnet_len = subnet_len(network, len)?;
        let last_number = (1 << (subnet_len - network.prefix())) - 1;
        let mut pool = Self {
            network,
            subnet_len,
            first: 1,
            last: last_number,
        };
        pool.first = pool.bound("Min", min)?.unwrap_or(pool.first);
        pool.last = pool.bound("Max", max)?.unwrap_or(pool.last);
        if pool.first > pool.last {
            return Err(InvalidPool::BoundsCrossed {
                min: pool.address(pool.first),
                max: pool.address(pool.last),
            });
        }
        Ok(pool)
    }

    /// The network that the subnets are cut from.
    pub const fn network(&self) -> IpNetwork {
        self.network
    }

    /// Prefix length of the subnets.
    pub const fn subnet_len(&self) -> u8 {
        self.subnet_len
    }

    /// How many subnets there are for leasing.
    pub const fn size(&self) -> u128 {
        self.last - self.first + 1
    }

    /// The subnet of a number below [`size`](Self::size).
    pub fn subnet(&self, number: u128) -> Option<IpNetwork> {
        let number = self.first.checked_add(number)?;
        if number > self.last {
            return None;
        }
        IpNetwork::new(self.address(number), self.subnet_len).ok()
    }

    /// Whether a subnet is one of those for leasing.
    pub fn holds(&self, subnet: IpNetwork) -> bool {
        subnet.prefix() == self.subnet_len
            && self
                .numbers(subnet)
                .is_some_and(|(first, last)| first == last && self.subnet(first) == Some(subnet))
    }

    /// The numbers, first and last, of the subnets for leasing that a network overlaps.
    pub fn numbers(&self, other: IpNetwork) -> Option<(u128, u128)> {
        if Family::of_network(&other) != Family::of_network(&self.network) {
            return None;
        }
        let number = |address: IpAddr| bits(address).checked_sub(bits(self.network.network()));
        let start = number(other.network()).unwrap_or(0) >> self.shift();
        let end = number(other.broadcast())? >> self.shift();
        if start > self.last || end < self.first {
            return None;
        }
        let relative = |number: u128| number.clamp(self.first, self.last) - self.first;
        Some((relative(start), relative(end)))
    }

    fn shift(&self) -> u8 {
        Family::of_network(&self.network).max_prefix() - self.subnet_len
    }

    fn address(&self, number: u128) -> IpAddr {
        let start = bits(self.network.network());
        address(
            Family::of_network(&self.network),
            start | number << self.shift(),
        )
    }

    /// The number of the subnet that a configured bound begins.
    fn bound(
        &self,
        bound: &'static str,
        address: Option<IpAddr>,
    ) -> Result<Option<u128>, InvalidPool> {
        let Some(address) = address.filter(|address| !address.is_unspecified()) else {
            return Ok(None);
        };
        if !self.network.contains(address) {
            let network = self.network;
            return Err(InvalidPool::BoundOutside {
                bound,
                address,
                network,
            });
        }
        let number = (bits(address) - bits(self.network.network())) >> self.shift();
        if self.address(number) != address {
            return Err(InvalidPool::BoundUnaligned { bound, address });
        }
        Ok(Some(number))
    }
}

// === impl Prefixed ===

impl fmt::Display for Prefixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Family::V4 => "",
            Family::V6 => "IPv6",
        })
    }
}

/// Prefix length of the smallest subnet: room for a tunnel and a bridge address.
const fn smallest_subnet(family: Family) -> u8 {
    family.max_prefix() - 2
}

/// Prefix length of the smallest network.
const fn smallest_network(family: Family) -> u8 {
    family.max_prefix() - 4
}

fn subnet_len(network: IpNetwork, len: u8) -> Result<u8, InvalidPool> {
    let family = Family::of_network(&network);
    let (usual, fits_usual) = match family {
        Family::V4 => (24, 22),
        Family::V6 => (64, 62),
    };
    match len {
        0 if network.prefix() > smallest_network(family) => {
            Err(InvalidPool::NetworkTooSmall { network })
        }
        0 if network.prefix() <= fits_usual => Ok(usual),
        0 => Ok(network.prefix() + 2),
        len if len > smallest_subnet(family) => Err(InvalidPool::SubnetTooSmall { family, len }),
        len if len < network.prefix() + 2 => Err(InvalidPool::SubnetTooLarge { network, len }),
        len => Ok(len),
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// `bits` are those of an address of the family, or of one in a network of it.
fn address(family: Family, bits: u128) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from(bits as u32).into(),
        Family::V6 => Ipv6Addr::from(bits).into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Network, SubnetLen, SubnetMin, SubnetMax, and what flanneld says of them.
    const ERRORS: [(&str, u8, &str, &str, &str); 11] = [
        (
            "10.3.0.0/16",
            31,
            "",
            "",
            "SubnetLen must be less than /31 (SubnetLen is 31)",
        ),
        (
            "10.3.0.0/16",
            17,
            "",
            "",
            "network must be able to accommodate at least four subnets (SubnetLen is 17 in 10.3.0.0/16)",
        ),
        (
            "10.3.0.0/29",
            0,
            "",
            "",
            "network is too small. Minimum useful network prefix is /28 (it is 10.3.0.0/29)",
        ),
        (
            "10.3.0.0/16",
            0,
            "10.4.0.0",
            "",
            "SubnetMin is not in the range of the Network (10.4.0.0 is not in 10.3.0.0/16)",
        ),
        (
            "10.3.0.0/16",
            0,
            "",
            "10.2.0.0",
            "SubnetMax is not in the range of the Network (10.2.0.0 is not in 10.3.0.0/16)",
        ),
        (
            "10.3.0.0/16",
            0,
            "10.3.1.5",
            "",
            "SubnetMin is not on a SubnetLen boundary: 10.3.1.5",
        ),
        (
            "10.3.0.0/16",
            0,
            "",
            "10.3.1.5",
            "SubnetMax is not on a SubnetLen boundary: 10.3.1.5",
        ),
        (
            "10.3.0.0/16",
            0,
            "10.3.9.0",
            "10.3.8.0",
            "SubnetMin 10.3.9.0 is above SubnetMax 10.3.8.0",
        ),
        (
            "fc00::/48",
            127,
            "",
            "",
            "SubnetLen must be less than /127 (IPv6SubnetLen is 127)",
        ),
        (
            "fc00::/125",
            0,
            "",
            "",
            "IPv6Network is too small. Minimum useful network prefix is /124 (it is fc00::/125)",
        ),
        (
            "fc00::/48",
            0,
            "fd00::",
            "",
            "IPv6SubnetMin is not in the range of the IPv6Network (fd00:: is not in fc00::/48)",
        ),
    ];

    fn pool(network: &str, len: u8, min: &str, max: &str) -> Result<Pool, String> {
        let ip = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
        Pool::new(network.parse().unwrap(), len, ip(min), ip(max))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_flannels() {
        for (network, first, last, size) in [
            ("10.3.0.0/16", "10.3.1.0/24", "10.3.255.0/24", 255),
            ("10.0.0.0/8", "10.0.1.0/24", "10.255.255.0/24", 65535),
            ("10.3.0.0/23", "10.3.0.128/25", "10.3.1.128/25", 3),
            ("10.3.0.0/28", "10.3.0.4/30", "10.3.0.12/30", 3),
            ("fc00::/48", "fc00:0:0:1::/64", "fc00:0:0:ffff::/64", 65535),
            ("fc00::/124", "fc00::4/126", "fc00::c/126", 3),
        ] {
            let pool = pool(network, 0, "", "").unwrap();
            assert_eq!(pool.subnet(0), Some(first.parse().unwrap()), "{network}");
            assert_eq!(
                pool.subnet(pool.size() - 1),
                Some(last.parse().unwrap()),
                "{network}"
            );
            assert_eq!(pool.size(), size, "{network}");
            assert_eq!(pool.subnet(size), None, "{network}");
        }
    }

    #[test]
    fn errors_are_flannels() {
        for (network, len, min, max, error) in ERRORS {
            assert_eq!(pool(network, len, min, max).unwrap_err(), error);
        }
    }

    #[test]
    fn unset_values_of_go_are_defaults() {
        assert_eq!(
            pool("10.3.0.0/16", 0, "0.0.0.0", "0.0.0.0"),
            pool("10.3.0.0/16", 24, "", "")
        );
    }

    #[test]
    fn holds_only_its_own_subnets() {
        let pool = pool("10.3.0.0/16", 24, "10.3.2.0", "10.3.9.0").unwrap();
        for (subnet, held) in [
            ("10.3.2.0/24", true),
            ("10.3.9.0/24", true),
            ("10.3.1.0/24", false),
            ("10.3.10.0/24", false),
            ("10.3.2.0/25", false),
            ("10.2.2.0/24", false),
            ("fc00::/64", false),
        ] {
            assert_eq!(pool.holds(subnet.parse().unwrap()), held, "{subnet}");
        }
    }

    #[test]
    fn numbers_are_those_of_every_overlap() {
        let pool = pool("10.3.0.0/16", 24, "10.3.2.0", "10.3.9.0").unwrap();
        for (network, numbers) in [
            ("10.3.2.0/24", Some((0, 0))),
            ("10.3.3.128/25", Some((1, 1))),
            ("10.3.0.0/16", Some((0, 7))),
            ("0.0.0.0/0", Some((0, 7))),
            ("10.3.4.0/23", Some((2, 3))),
            ("10.3.1.0/24", None),
            ("10.4.0.0/16", None),
            ("10.2.0.0/16", None),
            ("::/0", None),
        ] {
            assert_eq!(pool.numbers(network.parse().unwrap()), numbers, "{network}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_every_subnet_is_held(
            octets: [u8; 16],
            v6: bool,
            prefix in 0..=128u8,
            len: u8,
            number: u128,
        ) {
            let ip = if v6 { IpAddr::from(octets) } else { IpAddr::from([octets[0], octets[1], octets[2], octets[3]]) };
            let Ok(network) = IpNetwork::new(ip, prefix) else { return Ok(()) };
            let network = IpNetwork::new(network.network(), prefix).unwrap();
            if let Ok(pool) = Pool::new(network, len, None, None) {
                let number = number % pool.size();
                let subnet = pool.subnet(number).unwrap();
                prop_assert!(pool.holds(subnet));
                prop_assert_eq!(pool.numbers(subnet), Some((number, number)));
                prop_assert!(network.contains(subnet.ip()));
            }
        }
    }
}
