//! Transactions as the text that `nft -f -` takes.
//!
//! nft takes names of chains and sets for its own words where they are the same: a chain `reject` can be
//! made by [`Handle`](super::Handle), but not by this text.

mod rule;
mod set;

use std::fmt;

pub(super) use rule::InFamily;
use set::{Definition, ElementText};

use super::{
    BaseChain, TableFamily, Transaction,
    wire::{Step, steps},
};

/// Elements that [`StepText`] prints of a longer list when it is to be short.
const SHORT: usize = 3;

/// One command as text, about a table.
pub(super) struct StepText<'a> {
    pub family: TableFamily,
    pub table: &'a str,
    pub step: &'a Step<'a>,
    /// Leave the most of many elements out, as an error message should.
    pub short: bool,
}

/// What stands in braces behind a chain's name.
struct Braced<'a>(Option<&'a BaseChain>, Option<&'a str>);

// === impl Transaction ===

impl fmt::Display for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        steps(self).iter().try_for_each(|step| {
            let text = StepText {
                family: self.family,
                table: &self.table,
                step,
                short: false,
            };
            writeln!(f, "{text}")
        })
    }
}

// === impl StepText ===

impl fmt::Display for StepText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = format_args!("{} {}", self.family, self.table);
        match self.step {
            Step::AddTable(None) => write!(f, "add table {table}"),
            Step::AddTable(Some(comment)) => {
                write!(f, "add table {table} {{ comment \"{comment}\"; }}")
            }
            Step::DeleteTable => write!(f, "delete table {table}"),
            Step::AddChain(name, base, comment) => {
                write!(f, "add chain {table} {name}{}", Braced(*base, *comment))
            }
            Step::FlushChain(name) => write!(f, "flush chain {table} {name}"),
            Step::DeleteChain(name) => write!(f, "delete chain {table} {name}"),
            Step::AddRule(chain, rule) => {
                write!(
                    f,
                    "add rule {table} {chain}{}",
                    InFamily(*rule, self.family)
                )
            }
            Step::AddRawRule(chain, rule) => {
                write!(f, "add rule {table} {chain} xt \"{}\"", rule.text)
            }
            Step::InsertRawRule(chain, rule) => {
                write!(f, "insert rule {table} {chain} xt \"{}\"", rule.text)
            }
            Step::DeleteRule(chain, handle) => {
                write!(f, "delete rule {table} {chain} handle {handle}")
            }
            Step::AddSet(name, set) => {
                let kind = if set.data.is_some() { "map" } else { "set" };
                write!(f, "add {kind} {table} {name} {}", Definition(set))
            }
            Step::DeleteSet(name) => write!(f, "delete set {table} {name}"),
            Step::AddElements(set, elements) => {
                write!(f, "add element {table} {set} ")?;
                self.braced(f, elements, |(key, element)| ElementText {
                    key,
                    element: Some(element),
                })
            }
            Step::DeleteElements(set, keys) => {
                write!(f, "delete element {table} {set} ")?;
                self.braced(f, keys, |key| ElementText { key, element: None })
            }
        }
    }
}

impl StepText<'_> {
    fn braced<'b, T>(
        &self,
        f: &mut fmt::Formatter<'_>,
        items: &'b [T],
        text: impl Fn(&'b T) -> ElementText<'b>,
    ) -> fmt::Result {
        let shown = if self.short && items.len() > SHORT {
            SHORT
        } else {
            items.len()
        };
        f.write_str("{ ")?;
        separated(f, ", ", items.iter().take(shown).map(text))?;
        match items.len() - shown {
            0 => f.write_str(" }"),
            more => write!(f, ", and {more} more }}"),
        }
    }
}

// === impl Braced ===

impl fmt::Display for Braced<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(base, comment) = self;
        if base.is_none() && comment.is_none() {
            return Ok(());
        }
        f.write_str(" {")?;
        if let Some(base) = base {
            write!(f, " {base}")?;
        }
        if let Some(comment) = comment {
            write!(f, " comment \"{comment}\";")?;
        }
        f.write_str(" }")
    }
}

// === impl BaseChain ===

impl fmt::Display for BaseChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "type {} hook {} priority {}; policy {};",
            self.kind.name(),
            self.hook.name(),
            self.priority,
            self.policy.name()
        )
    }
}

fn separated<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    separator: &str,
    items: impl IntoIterator<Item = T>,
) -> fmt::Result {
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            f.write_str(separator)?;
        }
        write!(f, "{item}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::nft::{
        Chain, ChainKind, Command, DataType, Element, Hook, Rule, Set, Statement, Value,
    };

    fn marks(count: u32) -> Vec<Vec<Value>> {
        (0..count).map(|mark| vec![Value::Mark(mark)]).collect()
    }

    #[test]
    fn every_command_is_a_line() {
        let base = BaseChain::accepting(ChainKind::Nat, Hook::Postrouting, 100);
        let rule = Rule {
            statements: vec![Statement::Counter],
            comment: Some("all".into()),
        };
        let set = Set {
            key: vec![DataType::Mark],
            data: None,
            size: 9,
            interval: false,
            dynamic: false,
            comment: None,
            elements: BTreeMap::from([(vec![Value::Mark(7)], Element::default())]),
        };
        let transaction = Transaction {
            family: TableFamily::Ip6,
            table: "t".into(),
            commands: vec![
                Command::AddTable,
                Command::AddChain(
                    "c".into(),
                    Chain {
                        base: Some(base),
                        rules: vec![rule.clone()],
                    },
                ),
                Command::AddRule("c".into(), rule),
                Command::AddSet("s".into(), set),
                Command::DeleteElements("s".into(), marks(2)),
                Command::DeleteRule("c".into(), 5),
                Command::FlushChain("c".into()),
                Command::DeleteChain("c".into()),
                Command::DeleteSet("s".into()),
                Command::DeleteTable,
            ],
        };
        let lines = "add table ip6 t\n\
            add chain ip6 t c { type nat hook postrouting priority 100; policy accept; }\n\
            add rule ip6 t c counter comment \"all\"\n\
            add rule ip6 t c counter comment \"all\"\n\
            add set ip6 t s { type mark; size 9; }\n\
            add element ip6 t s { 0x00000007 }\n\
            delete element ip6 t s { 0x00000000, 0x00000001 }\n\
            delete rule ip6 t c handle 5\n\
            flush chain ip6 t c\n\
            delete chain ip6 t c\n\
            delete set ip6 t s\n\
            delete table ip6 t\n";
        assert_eq!(transaction.to_string(), lines);
    }

    #[test]
    fn many_elements_are_several_lines() {
        let transaction = Transaction {
            family: TableFamily::Ip,
            table: "t".into(),
            commands: vec![Command::DeleteElements("s".into(), marks(250))],
        };
        assert_eq!(transaction.to_string().lines().count(), 3);
    }
}
