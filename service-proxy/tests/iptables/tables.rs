//! Tables that do what `iptables-restore --noflush` does, and refuse what the kernel would refuse.

use std::collections::BTreeMap;

use kernel::iptables;
use service_proxy::plan::iptables::{Changes, Observed, Table};

/// The chains that tables have of themselves.
const BASE: [(Table, &[&str]); 3] = [
    (Table::Mangle, &["PREROUTING", "OUTPUT", "POSTROUTING"]),
    (Table::Nat, &["PREROUTING", "OUTPUT", "POSTROUTING"]),
    (Table::Filter, &["INPUT", "FORWARD", "OUTPUT"]),
];

/// The rules of chains by table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables(pub BTreeMap<Table, BTreeMap<String, Vec<String>>>);

// === impl Tables ===

impl Tables {
    /// Tables without rules.
    pub fn new() -> Self {
        let tables = BASE.into_iter().map(|(table, chains)| {
            let chains = chains.iter().map(|name| ((*name).to_owned(), Vec::new()));
            (table, chains.collect())
        });
        Self(tables.collect())
    }

    /// A chain, which is made if it is missing.
    pub fn chain(&mut self, table: Table, name: &str) -> &mut Vec<String> {
        self.0
            .entry(table)
            .or_default()
            .entry(name.to_owned())
            .or_default()
    }

    /// Does what is to be done, by its text.
    pub fn apply(&mut self, changes: &Changes) {
        let mut table = Table::Mangle;
        for line in changes.to_string().lines() {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            if let Some(name) = word.strip_prefix('*') {
                table = Table::ALL.into_iter().find(|it| it.name() == name).unwrap();
                continue;
            }
            let (name, rule) = rest.split_once(' ').unwrap_or((rest, ""));
            let chains = self.0.get_mut(&table).unwrap();
            match word {
                "COMMIT" => self.assert_leads_somewhere(table),
                "-A" => chains.get_mut(name).unwrap().push(rule.to_owned()),
                "-I" => chains.get_mut(name).unwrap().insert(0, rule.to_owned()),
                "-D" => {
                    let rules = chains.get_mut(name).unwrap();
                    let at = rules.iter().position(|it| it == rule).expect(line);
                    rules.remove(at);
                }
                "-X" => {
                    assert_eq!(chains.remove(name), Some(vec![]), "{line}");
                    let used = chains.values().flatten().any(|it| target(it) == name);
                    assert!(!used, "{line}");
                }
                declaration => {
                    let name = declaration.strip_prefix(':').unwrap();
                    chains.insert(name.to_owned(), Vec::new());
                }
            }
        }
    }

    fn assert_leads_somewhere(&self, table: Table) {
        let chains = &self.0[&table];
        for rule in chains.values().flatten() {
            let target = target(rule);
            assert!(
                !target.starts_with("KUBE-") || chains.contains_key(target),
                "{rule}"
            );
        }
    }

    /// As the program would read it.
    pub fn observed(&self) -> Observed {
        let table = |(table, chains): (&Table, &BTreeMap<String, Vec<String>>)| {
            let base = |name: &str| {
                BASE.iter()
                    .any(|(of, names)| of == table && names.contains(&name))
            };
            let chains = chains.iter().map(|(name, rules)| iptables::Chain {
                name: name.clone(),
                policy: base(name).then(|| "ACCEPT".to_owned()),
                rules: rules.clone(),
            });
            let chains = chains.collect();
            (*table, iptables::Table { chains })
        };
        self.0.iter().map(table).collect()
    }
}

fn target(rule: &str) -> &str {
    let mut words = rule.rsplit(' ').collect::<Vec<_>>();
    words.reverse();
    let at = words.iter().position(|word| *word == "-j");
    at.and_then(|at| words.get(at + 1)).copied().unwrap_or("")
}
