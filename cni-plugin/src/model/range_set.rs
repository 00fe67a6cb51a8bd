//! Ranges of addresses that host-local gives out.

use std::{fmt, net::IpAddr};

use ipnetwork::IpNetwork;
use kernel::Family;
use serde::Deserialize;

use super::{Cidr, ip_text::optional_address};

/// A range as configuration has it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RawRange {
    #[serde(default)]
    pub(super) subnet: Option<Cidr>,
    #[serde(default, deserialize_with = "optional_address")]
    pub(super) range_start: Option<IpAddr>,
    #[serde(default, deserialize_with = "optional_address")]
    pub(super) range_end: Option<IpAddr>,
    #[serde(default, deserialize_with = "optional_address")]
    pub(super) gateway: Option<IpAddr>,
}

/// A range: a part of a subnet, both ends included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The subnet, without host bits.
    pub subnet: IpNetwork,
    /// The first address.
    pub start: IpAddr,
    /// The last address.
    pub end: IpAddr,
    /// The gateway, never given out.
    pub gateway: IpAddr,
}

/// Ranges of one family that do not overlap. An attachment gets one address of each set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeSet(Vec<Range>);

/// Why ranges can't be used, in host-local's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say it")]
pub enum RangeError {
    #[error("empty range set")]
    Empty,
    #[error("range without subnet")]
    NoSubnet,
    #[error("Network {0} too small to allocate from")]
    TooSmall(IpNetwork),
    #[error(
        "Network has host bits set. For a subnet mask of length {} the network address is {}",
        .0.prefix(), .0.network()
    )]
    HostBits(IpNetwork),
    #[error("RangeStart {0} not in network {1}")]
    StartOutside(IpAddr, IpNetwork),
    #[error("RangeEnd {0} not in network {1}")]
    EndOutside(IpAddr, IpNetwork),
    #[error("mixed address families")]
    MixedFamilies,
    #[error("subnets {} and {} overlap", .0[0], .0[1])]
    Overlap(Box<[Range; 2]>),
}

// === impl Range ===

impl Range {
    fn new(raw: &RawRange) -> Result<Self, RangeError> {
        let Cidr(subnet) = raw.subnet.ok_or(RangeError::NoSubnet)?;
        let family = Family::of_network(&subnet);
        if subnet.prefix() > family.max_prefix() - 2 {
            return Err(RangeError::TooSmall(subnet));
        }
        if subnet.ip() != subnet.network() {
            return Err(RangeError::HostBits(subnet));
        }
        let first = address(family, number(subnet.network()) + 1);
        let mut range = Self {
            subnet,
            start: first,
            end: last(subnet),
            gateway: raw.gateway.unwrap_or(first),
        };
        if let Some(start) = raw.range_start {
            range.start = start;
            // The default end leaves the broadcast address out, which a start may not be either.
            if !(subnet.contains(start) && number(start) <= number(range.end)) {
                return Err(RangeError::StartOutside(start, subnet));
            }
        }
        if let Some(end) = raw.range_end {
            if !(subnet.contains(end) && number(end) >= number(range.start)) {
                return Err(RangeError::EndOutside(end, subnet));
            }
            range.end = end;
        }
        Ok(range)
    }

    /// Whether the address lies between the ends.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.family() == Family::of(&address)
            && (number(self.start)..=number(self.end)).contains(&number(address))
    }

    /// The addresses from one to another, both included.
    pub fn addresses(&self, from: u128, to: u128) -> impl Iterator<Item = IpAddr> + use<> {
        let family = self.family();
        (from..=to).map(move |number| address(family, number))
    }

    fn family(&self) -> Family {
        Family::of_network(&self.subnet)
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.start) || other.contains(self.start)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.start, self.end)
    }
}

// === impl RangeSet ===

impl RangeSet {
    /// Completes and checks ranges.
    pub fn new(raw: &[RawRange]) -> Result<Self, RangeError> {
        let ranges = raw.iter().map(Range::new).collect::<Result<Vec<_>, _>>()?;
        let family = ranges.first().ok_or(RangeError::Empty)?.family();
        if ranges.iter().any(|range| range.family() != family) {
            return Err(RangeError::MixedFamilies);
        }
        for (index, range) in ranges.iter().enumerate() {
            if let Some(other) = ranges.iter().skip(index + 1).find(|it| it.overlaps(range)) {
                let both = [range.clone(), other.clone()];
                return Err(RangeError::Overlap(both.into()));
            }
        }
        Ok(Self(ranges))
    }

    /// The ranges; at least one.
    pub fn ranges(&self) -> &[Range] {
        &self.0
    }

    /// The family of all of its addresses.
    pub fn family(&self) -> Option<Family> {
        self.0.first().map(Range::family)
    }

    /// The range that has the address.
    pub fn range_of(&self, address: IpAddr) -> Option<&Range> {
        self.0.iter().find(|range| range.contains(address))
    }

    /// Whether any address is in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let mut ranges = self.0.iter();
        ranges.any(|range| other.0.iter().any(|it| it.overlaps(range)))
    }
}

impl fmt::Display for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{range}")?;
        }
        Ok(())
    }
}

/// An address as a number.
pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

fn address(family: Family, number: u128) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4((number as u32).into()),
        Family::V6 => IpAddr::V6(number.into()),
    }
}

/// The last address to give out: the last of the subnet, for IPv4 the one before broadcast.
fn last(subnet: IpNetwork) -> IpAddr {
    match subnet {
        IpNetwork::V4(subnet) => address(Family::V4, number(subnet.broadcast().into()) - 1),
        IpNetwork::V6(subnet) => subnet.broadcast().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(json: &str) -> Result<RangeSet, RangeError> {
        let raw: Vec<RawRange> = serde_json::from_str(json).unwrap();
        RangeSet::new(&raw)
    }

    #[test]
    fn a_range_is_completed() {
        for (json, start, end, gateway) in [
            (
                r#"[{"subnet": "10.1.2.0/24"}]"#,
                "10.1.2.1",
                "10.1.2.254",
                "10.1.2.1",
            ),
            (
                r#"[{"subnet": "fd00::/64"}]"#,
                "fd00::1",
                "fd00::ffff:ffff:ffff:ffff",
                "fd00::1",
            ),
            (
                r#"[{"subnet": "10.1.2.0/30", "gateway": ""}]"#,
                "10.1.2.1",
                "10.1.2.2",
                "10.1.2.1",
            ),
            (
                r#"[{"subnet": "10.1.2.0/24", "rangeStart": "10.1.2.10", "rangeEnd": "10.1.2.20", "gateway": "10.1.2.254"}]"#,
                "10.1.2.10",
                "10.1.2.20",
                "10.1.2.254",
            ),
        ] {
            let set = set(json).unwrap();
            let range = &set.ranges()[0];
            let got = [range.start, range.end, range.gateway].map(|ip| ip.to_string());
            assert_eq!(got, [start, end, gateway], "{json}");
        }
    }

    #[test]
    fn bad_ranges_are_refused_in_the_words_of_host_local() {
        for (json, message) in [
            ("[]", "empty range set"),
            ("[{}]", "range without subnet"),
            (
                r#"[{"subnet": "10.1.2.0/31"}]"#,
                "Network 10.1.2.0/31 too small to allocate from",
            ),
            (
                r#"[{"subnet": "10.1.2.3/24"}]"#,
                "Network has host bits set. For a subnet mask of length 24 the network address is 10.1.2.0",
            ),
            (
                r#"[{"subnet": "10.1.2.0/24", "rangeStart": "10.1.3.1"}]"#,
                "RangeStart 10.1.3.1 not in network 10.1.2.0/24",
            ),
            (
                r#"[{"subnet": "10.1.2.0/24", "rangeEnd": "10.1.3.1"}]"#,
                "RangeEnd 10.1.3.1 not in network 10.1.2.0/24",
            ),
            (
                r#"[{"subnet": "10.1.2.0/24", "rangeStart": "10.1.2.9", "rangeEnd": "10.1.2.8"}]"#,
                "RangeEnd 10.1.2.8 not in network 10.1.2.0/24",
            ),
            (
                r#"[{"subnet": "10.1.2.0/24"}, {"subnet": "fd00::/64"}]"#,
                "mixed address families",
            ),
            (
                r#"[{"subnet": "10.1.0.0/16"}, {"subnet": "10.1.2.0/24"}]"#,
                "subnets 10.1.0.1-10.1.255.254 and 10.1.2.1-10.1.2.254 overlap",
            ),
        ] {
            assert_eq!(set(json).unwrap_err().to_string(), message, "{json}");
        }
    }

    #[test]
    fn a_set_knows_its_addresses() {
        let low = set(r#"[{"subnet": "10.1.2.0/24"}, {"subnet": "10.1.4.0/24"}]"#).unwrap();
        let high = set(r#"[{"subnet": "10.1.4.0/24", "rangeStart": "10.1.4.200"}]"#).unwrap();
        assert_eq!(low.to_string(), "10.1.2.1-10.1.2.254,10.1.4.1-10.1.4.254");
        assert!(low.overlaps(&high) && high.overlaps(&low));
        let of = |ip: &str| low.range_of(ip.parse().unwrap()).map(Range::to_string);
        assert_eq!(of("10.1.4.7").as_deref(), Some("10.1.4.1-10.1.4.254"));
        assert_eq!(of("10.1.3.7"), None);
        assert_eq!(of("::a01:207"), None);
    }
}
