//! Chains and their rules, and the text that `iptables-restore` takes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write as _},
};

use super::difference::Observed;

/// A table that there are rules in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Only a canary.
    Mangle,
    /// What leads to endpoints.
    Nat,
    /// What is refused, dropped or let through.
    Filter,
}

/// A chain of a table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId {
    /// The table.
    pub table: Table,
    /// The chain's name.
    pub name: String,
}

/// Chains with their rules in order, each as it follows `-A CHAIN`.
pub type Chains = BTreeMap<ChainId, Vec<String>>;

/// A rule in a chain that others have rules in too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shared {
    /// The chain.
    pub chain: ChainId,
    /// The rule, as it follows `-I CHAIN`.
    pub rule: String,
}

/// All that should stand in the tables of one family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// Chains that are ours alone.
    pub chains: Chains,
    /// Rules in other chains; of those in one chain, the last stands first.
    pub shared: Vec<Shared>,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Chains that are to be made, or emptied and filled anew; `None`: that are to be removed.
    pub chains: BTreeMap<ChainId, Option<Vec<String>>>,
    /// Chains that are to be made if they are missing, for rules between those of others.
    pub make: BTreeSet<ChainId>,
    /// Rules that are to be put at the beginning of chains of others, one after the other.
    pub insert: Vec<Shared>,
    /// Rules that are to be deleted from chains of others.
    pub delete: Vec<Shared>,
}

// === impl Table ===

impl Table {
    /// All of them, in the order in which they are written.
    pub const ALL: [Self; 3] = [Self::Mangle, Self::Nat, Self::Filter];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mangle => "mangle",
            Self::Nat => "nat",
            Self::Filter => "filter",
        }
    }

    /// A chain of it.
    pub fn chain(self, name: impl Into<String>) -> ChainId {
        ChainId {
            table: self,
            name: name.into(),
        }
    }
}

// === impl Ruleset ===

impl Ruleset {
    /// How many rules there are in a table.
    pub fn rules(&self, table: Table) -> usize {
        let chains = self.chains.iter().filter(|(chain, _)| chain.table == table);
        let shared = self.shared.iter().filter(|it| it.chain.table == table);
        chains.map(|(_, rules)| rules.len()).sum::<usize>() + shared.count()
    }
}

// === impl Changes ===

impl Changes {
    /// Whether there is nothing to be done.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The same in two parts: what is made and filled, and what goes.
    pub fn without_removals(self) -> (Self, Self) {
        let (chains, gone) = self.chains.into_iter().partition(|(_, it)| it.is_some());
        let before = Self {
            chains,
            make: self.make,
            insert: self.insert,
            delete: Vec::new(),
        };
        let after = Self {
            chains: gone,
            delete: self.delete,
            ..Self::default()
        };
        (before, after)
    }

    /// The same in two parts, with something to be done in between: at first, chains keep the rules that they have,
    /// before those that they are to have, so that what these lead to goes on for as long.
    pub fn make_before_break(self, have: &Observed) -> (Self, Self) {
        let (mut before, mut after) = self.without_removals();
        for (chain, rules) in &mut before.chains {
            let kept = have.rules(chain);
            if let (Some(rules), false) = (rules, kept.is_empty()) {
                after.chains.insert(chain.clone(), Some(rules.clone()));
                rules.splice(0..0, kept.iter().cloned());
            }
        }
        (before, after)
    }

    /// How many chains are written, and how many removed.
    pub fn counts(&self) -> (usize, usize) {
        let written = self.chains.values().flatten().count() + self.make.len();
        (written, self.chains.len() + self.make.len() - written)
    }

    /// How many rules are written in a table.
    pub fn rules(&self, table: Table) -> usize {
        let chains = self.chains.iter().filter(|(chain, _)| chain.table == table);
        let written: usize = chains
            .filter_map(|(_, rules)| Some(rules.as_ref()?.len()))
            .sum();
        let inserted = self.insert.iter().filter(|it| it.chain.table == table);
        written + inserted.count()
    }

    /// What is to be done in a table, in the order that never leads to a chain which is not there.
    fn write(&self, f: &mut fmt::Formatter<'_>, table: Table) -> fmt::Result {
        let chains = || self.chains.iter().filter(|(chain, _)| chain.table == table);
        let of_table = |rules: &'_ [Shared]| -> Vec<Shared> {
            let rules = rules.iter().filter(|rule| rule.chain.table == table);
            rules.cloned().collect()
        };
        let mut text = String::new();
        let made = self.make.iter().filter(|chain| chain.table == table);
        for chain in made.chain(chains().map(|(chain, _)| chain)) {
            writeln!(text, ":{} - [0:0]", chain.name)?;
        }
        for Shared { chain, rule } in of_table(&self.delete) {
            writeln!(text, "-D {} {rule}", chain.name)?;
        }
        for Shared { chain, rule } in of_table(&self.insert) {
            writeln!(text, "-I {} {rule}", chain.name)?;
        }
        for (chain, rules) in chains() {
            for rule in rules.iter().flatten() {
                writeln!(text, "-A {} {rule}", chain.name)?;
            }
        }
        for (chain, _) in chains().filter(|(_, rules)| rules.is_none()) {
            writeln!(text, "-X {}", chain.name)?;
        }
        if text.is_empty() {
            return Ok(());
        }
        write!(f, "*{}\n{text}COMMIT\n", table.name())
    }
}

/// The text for `iptables-restore --noflush`.
impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Table::ALL
            .into_iter()
            .try_for_each(|table| self.write(f, table))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_declarations_first_and_removals_last() {
        let shared = |chain: ChainId, rule: &str| Shared {
            chain,
            rule: rule.into(),
        };
        let changes = Changes {
            chains: BTreeMap::from([
                (Table::Nat.chain("A"), Some(vec!["-j B".into()])),
                (Table::Nat.chain("B"), Some(vec![])),
                (Table::Nat.chain("C"), None),
            ]),
            make: BTreeSet::from([Table::Filter.chain("F")]),
            insert: vec![shared(Table::Nat.chain("OUTPUT"), "-j A")],
            delete: vec![shared(Table::Nat.chain("OUTPUT"), "-j C")],
        };
        assert_eq!(
            changes.to_string(),
            "*nat\n:A - [0:0]\n:B - [0:0]\n:C - [0:0]\n-D OUTPUT -j C\n-I OUTPUT -j A\n-A A -j B\n-X C\nCOMMIT\n\
             *filter\n:F - [0:0]\nCOMMIT\n"
        );
        assert_eq!(changes.counts(), (3, 1));
        assert_eq!(Changes::default().to_string(), "");
    }
}
