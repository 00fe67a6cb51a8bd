//! Reading a table.

use std::collections::BTreeMap;

use nix::errno::Errno;

use super::{ATTEMPTS, Handle};
use crate::{
    netlink::{Error, Reply, Result},
    nft::{BaseChain, ObservedChain, ObservedRule, ObservedSet, ObservedTable, TableFamily, wire},
};

// === impl Handle ===

impl Handle {
    /// The table as it was at one moment: the generation is the same before and after.
    pub(super) fn read_consistently(
        &mut self,
        family: TableFamily,
        table: &str,
    ) -> Result<Option<ObservedTable>> {
        let mut before = self.read_generation()?;
        for _ in 0..ATTEMPTS {
            let read = self.read_once(family, table, before);
            let after = self.read_generation()?;
            if before == after {
                return read;
            }
            before = after;
        }
        Err(Error::KeepsChanging)
    }

    /// The names of a table's chains, with where the kernel calls them.
    pub(super) fn read_bases(
        &mut self,
        family: TableFamily,
        table: &str,
    ) -> Result<Vec<(String, Option<BaseChain>)>> {
        let replies = self.socket.dump(&wire::dump_chains(family)?)?;
        decode(&replies, |reply| wire::decode_chain(family, table, reply))
    }

    /// What is to be kept of the rules of a table, or of one of its chains.
    pub(super) fn read_rules<T>(
        &mut self,
        family: TableFamily,
        table: &str,
        chain: Option<&str>,
        keep: impl Fn(String, ObservedRule) -> T,
    ) -> Result<Vec<T>> {
        let request = match chain {
            Some(chain) => wire::dump_rules_of(family, table, chain)?,
            None => wire::dump_rules(family, table)?,
        };
        let rules = self.socket.dump_parsed(&request, |body| {
            let rule = wire::decode_rule_body(table, body).transpose()?;
            Some(rule.map(|(chain, rule)| keep(chain, rule)))
        })?;
        rules.into_iter().collect()
    }

    pub(super) fn read_generation(&mut self) -> Result<u32> {
        let replies = self.socket.get(&wire::get_generation()?)?;
        wire::decode_generation(&replies)
    }

    fn read_once(
        &mut self,
        family: TableFamily,
        table: &str,
        generation: u32,
    ) -> Result<Option<ObservedTable>> {
        let Some(dormant) = self.read_flags(family, table)? else {
            return Ok(None);
        };
        Ok(Some(ObservedTable {
            family,
            name: table.to_owned(),
            generation,
            dormant,
            chains: self.read_chains(family, table)?,
            sets: self.read_sets(family, table)?,
        }))
    }

    /// Whether the table is dormant; `None` if it does not exist.
    fn read_flags(&mut self, family: TableFamily, table: &str) -> Result<Option<bool>> {
        let replies = match self.socket.get(&wire::get_table(family, table)?) {
            Err(error) if error.errno() == Some(Errno::ENOENT) => return Ok(None),
            other => other?,
        };
        let decoded = decode(&replies, |reply| wire::decode_table(family, table, reply))?;
        Ok(decoded.first().copied())
    }

    fn read_chains(
        &mut self,
        family: TableFamily,
        table: &str,
    ) -> Result<BTreeMap<String, ObservedChain>> {
        let mut chains: BTreeMap<String, ObservedChain> = self
            .read_bases(family, table)?
            .into_iter()
            .map(|(name, base)| {
                (
                    name,
                    ObservedChain {
                        base,
                        rules: Vec::new(),
                    },
                )
            })
            .collect();
        let replies = self.socket.dump(&wire::dump_rules(family, table)?)?;
        for (chain, rule) in decode(&replies, |reply| wire::decode_rule(family, table, reply))? {
            chains.entry(chain).or_default().rules.push(rule);
        }
        Ok(chains)
    }

    fn read_sets(
        &mut self,
        family: TableFamily,
        table: &str,
    ) -> Result<BTreeMap<String, ObservedSet>> {
        let replies = self.socket.dump(&wire::dump_sets(family, table)?)?;
        let mut sets = BTreeMap::new();
        for (name, set) in decode(&replies, |reply| wire::decode_set(family, table, reply))? {
            let ObservedSet::Known(mut set) = set else {
                sets.insert(name, set);
                continue;
            };
            let replies = self
                .socket
                .dump(&wire::dump_elements(family, table, &name)?)?;
            let set = match wire::decode_elements(family, &set, &replies)? {
                Some(elements) => {
                    set.elements = elements;
                    ObservedSet::Known(set)
                }
                None => ObservedSet::Foreign,
            };
            sets.insert(name, set);
        }
        Ok(sets)
    }
}

/// What the replies say, leaving out those that are about something else.
fn decode<T>(replies: &[Reply], decode: impl Fn(&Reply) -> Result<Option<T>>) -> Result<Vec<T>> {
    replies
        .iter()
        .filter_map(|reply| decode(reply).transpose())
        .collect()
}
