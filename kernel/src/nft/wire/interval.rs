//! Networks as the kernel has them: ranges of two elements.
//!
//! An interval set holds a range as its first address, and the first address behind it marked as an end.
//! The last range of all has no end.

use std::{collections::BTreeMap, net::IpAddr};

use ipnetwork::IpNetwork;

use super::encode_values;
use crate::{
    Family,
    nft::{Element, Invalid, Key, Value},
};

/// One element as the kernel has it.
pub(super) struct Raw {
    pub(super) key: Vec<Value>,
    /// It ends a range.
    pub(super) end: bool,
    pub(super) element: Element,
}

/// Where a key ends.
#[derive(PartialEq, Eq)]
pub(super) enum End {
    /// It is a single value.
    Itself,
    /// It is a range that ends before this address.
    Before(Vec<u8>),
    /// It is a range up to the last address of all.
    Open,
}

/// The bytes of a key, or of a network's first address, and where it ends.
pub(super) fn bounds(key: &Key) -> Result<(Vec<u8>, End), Invalid> {
    match key.as_slice() {
        [Value::Network(network)] => {
            let first = encode_values(&[Value::Address(network.network())])?;
            let end = match following(network) {
                Some(end) => End::Before(encode_values(&[Value::Address(end)])?),
                None => End::Open,
            };
            Ok((first, end))
        }
        values => Ok((encode_values(values)?, End::Itself)),
    }
}

/// The address behind the last one of a network.
fn following(network: &IpNetwork) -> Option<IpAddr> {
    match network {
        IpNetwork::V4(network) => u32::from(network.broadcast())
            .checked_add(1)
            .map(|end| IpAddr::V4(end.into())),
        IpNetwork::V6(network) => u128::from(network.broadcast())
            .checked_add(1)
            .map(|end| IpAddr::V6(end.into())),
    }
}

/// The network that a range is, from its first address and the one behind its last.
fn network_of(first: IpAddr, end: Option<IpAddr>) -> Option<IpNetwork> {
    let max = Family::of(&first).max_prefix();
    (0..=max)
        .filter_map(|prefix| IpNetwork::new(first, prefix).ok())
        .find(|network| network.network() == first && following(network) == end)
}

/// Puts beginnings and ends together; `None` if a range is no network.
pub(super) fn join_ranges(mut raw: Vec<Raw>) -> Option<BTreeMap<Key, Element>> {
    // Where one range ends and the next begins at one address, the end comes first.
    raw.sort_by(|a, b| a.key.cmp(&b.key).then(b.end.cmp(&a.end)));
    let mut ranges = BTreeMap::new();
    let mut rest = raw.into_iter().peekable();
    while let Some(start) = rest.next() {
        // nft puts an end before the first range, which ends nothing.
        if start.end {
            continue;
        }
        let end = match rest.next_if(|next| next.end) {
            Some(end) => Some(single_address(&end.key)?),
            None if rest.peek().is_some() => return None,
            None => None,
        };
        let network = network_of(single_address(&start.key)?, end)?;
        ranges.insert(vec![Value::Network(network)], start.element);
    }
    Some(ranges)
}

fn single_address(key: &[Value]) -> Option<IpAddr> {
    match key {
        [Value::Address(address)] => Some(*address),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn network(text: &str) -> IpNetwork {
        text.parse().unwrap()
    }

    #[test]
    fn a_range_is_the_network_that_it_was_made_of() {
        for text in [
            "0.0.0.0/0",
            "0.0.0.0/1",
            "128.0.0.0/1",
            "10.0.0.0/8",
            "10.0.0.1/32",
            "255.255.255.255/32",
            "::/0",
            "fd00::/8",
            "ff00::/8",
            "fd00::1/128",
        ] {
            let network = network(text);
            assert_eq!(
                network_of(network.network(), following(&network)),
                Some(network),
                "{text}"
            );
        }
    }

    #[test]
    fn a_range_that_is_no_network_is_none() {
        let end = |text: &str| Some(text.parse().unwrap());
        assert_eq!(
            network_of("10.0.0.1".parse().unwrap(), end("10.0.0.3")),
            None
        );
        assert_eq!(
            network_of("10.0.0.0".parse().unwrap(), end("9.0.0.0")),
            None
        );
        assert_eq!(network_of("10.0.0.0".parse().unwrap(), None), None);
        assert_eq!(network_of("10.0.0.0".parse().unwrap(), end("fd00::")), None);
    }
}
