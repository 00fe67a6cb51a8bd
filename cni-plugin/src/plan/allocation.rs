//! Which address an attachment gets.

use std::net::IpAddr;

use crate::model::{Range, RangeSet, number};

/// Why there is none, in host-local's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAddress {
    /// All are taken.
    #[error("no IP addresses available in range set: {0}")]
    Exhausted(RangeSet),
    /// The requested one is taken.
    #[error("requested IP address {0} is not available in range set {1}")]
    Taken(IpAddr, RangeSet),
    /// The requested one is the gateway's.
    #[error("requested ip {0} is subnet's gateway")]
    Gateway(IpAddr),
}

/// The next free address after the one that was given out last, and its range. An address that was freed
/// is thus not given out again before all others were: neighbours and connection tracking had time to
/// forget it.
pub fn next(
    set: &RangeSet,
    last: Option<IpAddr>,
    is_taken: impl Fn(IpAddr) -> bool,
) -> Result<(IpAddr, &Range), NoAddress> {
    candidates(set, last)
        .find(|(address, range)| *address != range.gateway && !is_taken(*address))
        .ok_or_else(|| NoAddress::Exhausted(set.clone()))
}

/// A requested address, if it can be had. `range` is the set's range that has it.
pub fn requested<'a>(
    set: &RangeSet,
    range: &'a Range,
    address: IpAddr,
    is_taken: impl Fn(IpAddr) -> bool,
) -> Result<(IpAddr, &'a Range), NoAddress> {
    if address == range.gateway {
        Err(NoAddress::Gateway(address))
    } else if is_taken(address) {
        Err(NoAddress::Taken(address, set.clone()))
    } else {
        Ok((address, range))
    }
}

/// All addresses of the set once, from the one after `last`, or from the first where `last` is not in it.
fn candidates(set: &RangeSet, last: Option<IpAddr>) -> impl Iterator<Item = (IpAddr, &Range)> {
    let ranges = set.ranges();
    let range_of_last = |last: IpAddr| {
        let index = ranges.iter().position(|range| range.contains(last))?;
        Some((index, number(last)))
    };
    let whole = |range: &Range| (number(range.start), number(range.end));
    let mut parts = Vec::with_capacity(ranges.len() + 1);
    match last.and_then(range_of_last) {
        Some((index, last)) => {
            let (earlier, rest) = ranges.split_at(index);
            let cut = &ranges[index];
            let (start, end) = whole(cut);
            // The last address of all has no successor; it is then tried twice, which does no harm.
            parts.push((cut, last.saturating_add(1), end));
            let others = rest.iter().skip(1).chain(earlier);
            parts.extend(others.map(|range| (range, number(range.start), number(range.end))));
            parts.push((cut, start, last));
        }
        None => parts.extend(ranges.iter().map(|range| {
            let (start, end) = whole(range);
            (range, start, end)
        })),
    }
    parts.into_iter().flat_map(|(range, from, to)| {
        range
            .addresses(from, to)
            .map(move |address| (address, range))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::model::RawRange;

    fn set(json: &str) -> RangeSet {
        let raw: Vec<RawRange> = serde_json::from_str(json).unwrap();
        RangeSet::new(&raw).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Gives out addresses until there are none.
    fn all(set: &RangeSet, mut last: Option<IpAddr>) -> Vec<String> {
        let mut taken = BTreeSet::new();
        while let Ok((address, _)) = next(set, last, |address| taken.contains(&address)) {
            assert!(taken.insert(address));
            last = Some(address);
        }
        let mut order: Vec<IpAddr> = taken.into_iter().collect();
        order.sort();
        order.iter().map(IpAddr::to_string).collect()
    }

    const TWO: &str = r#"[{"subnet": "10.1.2.0/29"},
        {"subnet": "10.1.4.0/24", "rangeStart": "10.1.4.8", "rangeEnd": "10.1.4.9"}]"#;

    #[test]
    fn goes_round_from_the_last_and_leaves_the_gateway_out() {
        for (json, last, taken, want) in [
            (TWO, None, &[][..], "10.1.2.2"),
            (TWO, Some("10.1.2.2"), &[], "10.1.2.3"),
            (TWO, Some("10.1.2.2"), &["10.1.2.3"], "10.1.2.4"),
            (TWO, Some("10.1.2.6"), &[], "10.1.4.8"),
            (TWO, Some("10.1.4.9"), &[], "10.1.2.2"),
            (TWO, Some("10.9.9.9"), &[], "10.1.2.2"),
            (r#"[{"subnet": "fd00::/64"}]"#, None, &[], "fd00::2"),
            (
                r#"[{"subnet": "fd00::/64"}]"#,
                Some("fd00::ff"),
                &[],
                "fd00::100",
            ),
        ] {
            let set = set(json);
            let is_taken = |address: IpAddr| taken.contains(&&*address.to_string());
            let (address, range) = next(&set, last.map(ip), is_taken).unwrap();
            assert_eq!(address, ip(want), "{json} after {last:?}");
            assert!(range.contains(address));
        }
    }

    #[test]
    fn the_last_free_address_may_be_the_last_one_given_out() {
        let set = set(r#"[{"subnet": "10.1.2.0/30"}]"#);
        assert_eq!(all(&set, Some(ip("10.1.2.2"))), ["10.1.2.2"]);
        let error = next(&set, None, |_| true).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no IP addresses available in range set: 10.1.2.1-10.1.2.2"
        );
    }

    #[test]
    fn a_requested_address_is_free_and_not_the_gateway() {
        let set = set(TWO);
        let ask = |address: &str, taken: bool| {
            let range = set.range_of(ip(address)).unwrap();
            requested(&set, range, ip(address), |_| taken).map_err(|error| error.to_string())
        };
        assert!(ask("10.1.2.5", false).is_ok());
        assert_eq!(
            ask("10.1.2.1", false).unwrap_err(),
            "requested ip 10.1.2.1 is subnet's gateway"
        );
        assert_eq!(
            ask("10.1.2.5", true).unwrap_err(),
            "requested IP address 10.1.2.5 is not available in range set 10.1.2.1-10.1.2.6,10.1.4.8-10.1.4.9"
        );
    }

    proptest! {
        #[test]
        fn every_address_is_given_out_once(last in "10\\.1\\.[24]\\.[0-9]") {
            let want = [
                "10.1.2.2", "10.1.2.3", "10.1.2.4", "10.1.2.5", "10.1.2.6", "10.1.4.8", "10.1.4.9",
            ];
            prop_assert_eq!(all(&set(TWO), Some(ip(&last))), want);
        }
    }
}
