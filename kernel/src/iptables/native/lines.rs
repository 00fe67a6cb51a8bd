//! What `iptables-restore --noflush` is told, as far as it can be done without the program.

use std::{collections::BTreeMap, str::Lines};

use super::base;
use crate::{Family, iptables::rule::Rule, nft::RawRule};

/// What is to be done in a table.
#[derive(Debug, Default)]
pub(super) struct Section<'a> {
    pub table: &'a str,
    /// Chains that are made, or emptied, and the rules that are appended to them.
    pub chains: BTreeMap<&'a str, Vec<RawRule>>,
    /// Rules that are appended to chains that stay as they are.
    pub append: Vec<(&'a str, RawRule)>,
    /// Rules that are put in front, one after the other.
    pub insert: Vec<(&'a str, RawRule)>,
    /// Rules that are deleted.
    pub delete: Vec<(&'a str, &'a str)>,
    /// Chains that are removed.
    pub remove: Vec<&'a str>,
}

/// The tables of a text; `None` if there is something in it that only the program knows.
pub(super) fn parse(text: &str, family: Family) -> Option<Vec<Section<'_>>> {
    let mut sections = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let table = line.strip_prefix('*')?;
        base::chains(table)?;
        let mut section = Section {
            table,
            ..Section::default()
        };
        section.read(&mut lines, family)?;
        sections.push(section);
    }
    Some(sections)
}

// === impl Section ===

impl<'a> Section<'a> {
    /// The chains that have to be known to be there or not: those that it makes or removes, and the kernel's own.
    pub(super) fn involved(&self) -> impl Iterator<Item = &'a str> {
        let base = base::chains(self.table).into_iter().flatten();
        let named = self.chains.keys().chain(&self.remove).copied();
        base.map(|(name, _)| name).chain(named)
    }

    /// Reads up to the end of the table.
    fn read(&mut self, lines: &mut Lines<'a>, family: Family) -> Option<()> {
        loop {
            let line = lines.next()?;
            if line == "COMMIT" {
                return Some(());
            }
            if let Some(declaration) = line.strip_prefix(':') {
                let name = declaration.strip_suffix(" - [0:0]")?;
                self.chains.insert(name, Vec::new());
                continue;
            }
            let (command, rest) = line.split_once(' ')?;
            let (chain, rule) = rest.split_once(' ').unwrap_or((rest, ""));
            let raw = || Rule::parse(rule, family)?.raw(family, rule);
            match command {
                "-A" => match self.chains.get_mut(chain) {
                    Some(rules) => rules.push(raw()?),
                    None => self.append.push((chain, raw()?)),
                },
                "-I" => self.insert.push((chain, raw()?)),
                "-D" => self.delete.push((chain, rule)),
                "-X" => {
                    let rules = self.chains.remove(chain)?;
                    rules.is_empty().then_some(())?;
                    self.remove.push(chain);
                }
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_service_proxy_writes_needs_no_program() {
        for (family, text) in [
            (
                Family::V4,
                include_str!("../../../../service-proxy/tests/iptables/tree.rules"),
            ),
            (
                Family::V4,
                include_str!("../../../../service-proxy/tests/iptables/kube-proxy.rules"),
            ),
            (
                Family::V6,
                include_str!("../../../../service-proxy/tests/iptables/ip6.rules"),
            ),
        ] {
            assert!(parse(text, family).is_some());
        }
    }

    #[test]
    fn what_only_a_program_knows_is_left_to_it() {
        for text in [
            "*raw\n:A - [0:0]\nCOMMIT\n",
            "*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n",
            "*nat\n:A - [1:2]\nCOMMIT\n",
            "*nat\n-F A\nCOMMIT\n",
            "*nat\n-X A\nCOMMIT\n",
            "*nat\n:A - [0:0]\n",
            "*nat\n-A A -j SNAT\nCOMMIT\n",
            "*nat\n-A A -m length --length 3\nCOMMIT\n",
            "*nat\n-A A -p tcp --dport 80\nCOMMIT\n",
            "*nat\n-A A -d fd00::1\nCOMMIT\n",
            "*nat\n-A A -m mark\nCOMMIT\n",
            "nonsense",
        ] {
            assert!(parse(text, Family::V4).is_none(), "{text}");
        }
    }
}
