//! Which subnets are free, and which of them a node takes first.

use ipnetwork::IpNetwork;
use kernel::Family;

use crate::{
    model::{ByFamily, LeaseKey, Pool},
    plan::hash::hash,
};

/// No subnet is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all {size} {family} subnets of {network} are leased")]
pub struct Full {
    /// The family that has none.
    pub family: Family,
    /// The network.
    pub network: IpNetwork,
    /// How many subnets it has.
    pub size: u128,
}

/// Whether two leases have addresses in common.
pub(super) fn overlap(one: &LeaseKey, other: &LeaseKey) -> bool {
    Family::ALL
        .into_iter()
        .filter_map(|family| one.subnet(family).zip(other.subnet(family)))
        .any(|(one, other)| one.contains(other.network()) || other.contains(one.network()))
}

/// Whether a lease is one that could be chosen now.
pub(super) fn fits(pools: &ByFamily<Pool>, key: &LeaseKey) -> bool {
    Family::ALL
        .into_iter()
        .all(|family| match (pools.get(family), key.subnet(family)) {
            (Some(pool), Some(subnet)) => pool.holds(subnet),
            (None, None) => true,
            _ => false,
        })
}

/// The first of the wishes that is free, or else the first free subnet from the node's own place on.
pub(super) fn choose(
    family: Family,
    pool: &Pool,
    node: &str,
    wishes: [Option<IpNetwork>; 2],
    others: &[LeaseKey],
) -> Result<IpNetwork, Full> {
    let taken = taken(family, pool, others);
    let is_free = |subnet: &IpNetwork| {
        pool.numbers(*subnet)
            .is_some_and(|(number, _)| first_free(number, number + 1, &taken).is_some())
    };
    let wish = wishes
        .into_iter()
        .flatten()
        .find(|subnet| pool.holds(*subnet) && is_free(subnet));
    let place = u128::from(hash(&["subnet", node, &family.to_string()])) % pool.size();
    wish.or_else(|| {
        first_free(place, pool.size(), &taken)
            .or_else(|| first_free(0, place, &taken))
            .and_then(|number| pool.subnet(number))
    })
    .ok_or(Full {
        family,
        network: pool.network(),
        size: pool.size(),
    })
}

/// The numbers that are taken, as ranges from first to last, in their order.
fn taken(family: Family, pool: &Pool, others: &[LeaseKey]) -> Vec<(u128, u128)> {
    let mut taken: Vec<_> = others
        .iter()
        .filter_map(|key| pool.numbers(key.subnet(family)?))
        .collect();
    taken.sort_unstable();
    taken
}

/// The first number from `start` to before `end` that is in none of the ranges.
fn first_free(start: u128, end: u128, taken: &[(u128, u128)]) -> Option<u128> {
    let mut candidate = start;
    for &(first, last) in taken {
        if first > candidate {
            break;
        }
        candidate = candidate.max(last + 1);
    }
    (candidate < end).then_some(candidate)
}
