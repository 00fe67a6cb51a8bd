//! Look-ups whose cost grows with the logarithm of what there is to look up: chains by prefix.
//!
//! A chain leads to up to eight chains of longer prefixes, as short as what is below allows, down to chains of
//! a few rules. Few rules need no tree, so that small clusters look as they always did.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use kernel::Family;

use super::{
    entries::Key,
    name,
    rule::Rule,
    ruleset::{Chains, Table},
};
use crate::model::Protocol;

/// Up to so many rules stand in one chain.
const LEAF: usize = 16;
/// How many bits of the key a chain decides at the most.
const BITS: u8 = 3;

/// What is looked up, in which table, and how the chains are called.
#[derive(Clone, Copy, Debug)]
pub struct Tree {
    /// The table.
    pub table: Table,
    /// How the names of chains begin.
    pub prefix: &'static str,
    /// The keys.
    pub space: Space,
}

/// The keys of a tree.
#[derive(Clone, Copy, Debug)]
pub enum Space {
    /// Addresses that connections go to.
    Addresses(Family),
    /// Ports of a protocol.
    Ports(Protocol),
}

/// The rules for a key.
pub type Item = (Key, Vec<String>);

// === impl Tree ===

impl Tree {
    /// Adds the chains for some keys, which are in order; answers with the rules that lead there.
    pub fn grow(&self, items: &[Item], chains: &mut Chains) -> Vec<String> {
        let (Some((first, _)), Some((last, _))) = (items.first(), items.last()) else {
            return Vec::new();
        };
        if count(items) <= LEAF || items.len() == 1 {
            return items.iter().flat_map(|(_, rules)| rules).cloned().collect();
        }
        let common = self.space.common(first, last);
        // As few as it takes for no more to be decided, so that chains at the end are not nearly empty.
        let bits = (1..BITS).find(|bits| {
            let mut branches = self.branches(items, common.saturating_add(*bits));
            branches.all(|branch| count(branch) <= LEAF)
        });
        self.branches(items, common.saturating_add(bits.unwrap_or(BITS)))
            .flat_map(|branch| self.branch(branch, chains))
            .collect()
    }

    /// Keys that begin with the same bits, as many as are decided.
    fn branches<'a>(&self, items: &'a [Item], decided: u8) -> impl Iterator<Item = &'a [Item]> {
        let space = self.space;
        items.chunk_by(move |(a, _), (b, _)| space.common(a, b) >= decided)
    }

    fn branch(&self, items: &[Item], chains: &mut Chains) -> Vec<String> {
        let (Some((first, _)), Some((last, _))) = (items.first(), items.last()) else {
            return Vec::new();
        };
        if items.len() == 1 {
            return self.grow(items, chains);
        }
        let (label, rule) = self.space.part(first, self.space.common(first, last));
        let name = format!("{}{label}", self.prefix);
        let rules = self.grow(items, chains);
        chains.insert(self.table.chain(name.clone()), rules);
        vec![rule.jump(name)]
    }
}

// === impl Space ===

impl Space {
    fn width(self) -> u8 {
        match self {
            Self::Addresses(family) => family.max_prefix(),
            Self::Ports(_) => 16,
        }
    }

    /// How many bits two keys begin with that are the same.
    fn common(self, a: &Key, b: &Key) -> u8 {
        let differing = a.bits() ^ b.bits();
        let significant = u128::BITS - differing.leading_zeros();
        self.width()
            .saturating_sub(u8::try_from(significant).unwrap_or(u8::MAX))
    }

    /// What all keys are called that begin with so many bits of one, and the rule that they match.
    fn part(self, key: &Key, length: u8) -> (String, Rule) {
        let host = u32::from(self.width() - length);
        let rest = 1_u128.checked_shl(host).unwrap_or(0).wrapping_sub(1);
        let first = key.bits() & !rest;
        match self {
            Self::Addresses(family) => {
                let network = network(family, first, length);
                let label = match family {
                    Family::V4 => network.clone(),
                    // Names have 28 characters at the most.
                    Family::V6 => name::hash(&network),
                };
                (label, Rule::new().with(format_args!("-d {network}")))
            }
            Self::Ports(protocol) => {
                let last = first | rest;
                let label = format!("{protocol}-{first}-{last}");
                let ports = format!("--dport {first}:{last}");
                (label, Rule::new().protocol(protocol).with(ports))
            }
        }
    }
}

// === impl Key ===

impl Key {
    fn bits(&self) -> u128 {
        match *self {
            Self::Address(IpAddr::V4(address)) => address.to_bits().into(),
            Self::Address(IpAddr::V6(address)) => address.to_bits(),
            Self::Port(_, port) => port.into(),
        }
    }
}

fn count(items: &[Item]) -> usize {
    items.iter().map(|(_, rules)| rules.len()).sum()
}

fn network(family: Family, bits: u128, length: u8) -> String {
    let address: IpAddr = match family {
        Family::V4 => Ipv4Addr::from_bits(u32::try_from(bits).unwrap_or(u32::MAX)).into(),
        Family::V6 => Ipv6Addr::from_bits(bits).into(),
    };
    IpNetwork::new(address, length).map_or_else(|_| address.to_string(), |it| it.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const TREE: Tree = Tree {
        table: Table::Nat,
        prefix: "KUBE-NET-",
        space: Space::Addresses(Family::V4),
    };

    fn item(address: Ipv4Addr) -> Item {
        let rule = Rule::new().destination(address.into()).jump("X");
        (Key::Address(address.into()), vec![rule])
    }

    #[test]
    fn few_rules_stand_in_one_chain() {
        let items: Vec<_> = (1..=16)
            .map(|it| item(Ipv4Addr::new(10, 96, 0, it)))
            .collect();
        let mut chains = Chains::new();
        let rules = TREE.grow(&items, &mut chains);
        assert_eq!((rules.len(), chains.len()), (16, 0));
    }

    #[test]
    fn more_are_found_by_prefix() {
        let near = (0..10).map(|it| item(Ipv4Addr::new(10, 96, 0, it)));
        let others = (0..10).map(|it| item(Ipv4Addr::new(10, 111, 1, 4 * it)));
        let alone = [item(Ipv4Addr::new(203, 0, 113, 9))];
        let items: Vec<_> = near.chain(others).chain(alone).collect();
        let mut chains = Chains::new();
        let rules = TREE.grow(&items, &mut chains);
        assert_eq!(
            rules,
            [
                "-d 10.96.0.0/12 -j KUBE-NET-10.96.0.0/12",
                "-d 203.0.113.9 -j X"
            ]
        );
        let names: Vec<_> = chains.keys().map(|chain| chain.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "KUBE-NET-10.111.1.0/26",
                "KUBE-NET-10.96.0.0/12",
                "KUBE-NET-10.96.0.0/28"
            ]
        );
    }

    /// As many comparisons as a packet to the last of ten thousand Services costs.
    #[test]
    fn the_way_is_short() {
        let items: Vec<_> = (0..10_000_u32)
            .map(|it| item(Ipv4Addr::from_bits(0x0a60_0000 + it)))
            .collect();
        let mut chains = Chains::new();
        let mut rules = TREE.grow(&items, &mut chains);
        let mut compared = 0;
        for _ in 0..20 {
            compared += rules.len();
            let last = rules.last().unwrap().rsplit(' ').next().unwrap();
            match chains.get(&Table::Nat.chain(last)) {
                Some(next) => rules = next.clone(),
                None => break,
            }
        }
        assert!(compared < 50, "{compared}");
        assert!(chains.len() < 1000, "{}", chains.len());
    }
}
