//! What makes a table that was read from the kernel the one that is wanted.

use std::{borrow::Cow, collections::BTreeMap};

use super::{
    BaseChain, Chain, Command, Element, Key, ObservedChain, ObservedRule, ObservedSet,
    ObservedTable, Rule, Set, Table, Transaction, Value, lower,
};
use crate::Family;

/// The transactions that turn a table into the wanted one, in their order; none if it is that already.
///
/// The first does everything that matters, in one step for packets. A second one deletes chains that nothing
/// leads to any more: kernels before 6.2 refuse that in the batch that deletes the element which led there.
/// A table whose sets or base chains have the wrong shape is replaced as a whole, in one transaction too.
pub fn diff(have: Option<&ObservedTable>, want: &Table) -> Vec<Transaction> {
    let batches = match have {
        None => return vec![create(want.clone())],
        Some(have) if is_misshapen(have, want) => {
            vec![[vec![Command::DeleteTable], make(want.clone())].concat()]
        }
        Some(have) => vec![change(have, want), clean(have, want)],
    };
    batches
        .into_iter()
        .filter(|commands| !commands.is_empty())
        .map(|commands| Transaction {
            family: want.family.into(),
            table: want.name.clone(),
            commands,
        })
        .collect()
}

/// The transaction that makes a table where there is none. It takes the elements as they are, where
/// [`diff`] would need as much memory again for copies.
pub fn create(want: Table) -> Transaction {
    Transaction {
        family: want.family.into(),
        table: want.name.clone(),
        commands: make(want),
    }
}

/// The commands that turn the elements of a set into the wanted ones; none if they are those already.
///
/// All have to be in one transaction: an element whose data or comment differ is deleted and added again.
pub fn elements_delta(
    set: &str,
    have: &BTreeMap<Key, Element>,
    want: &BTreeMap<Key, Element>,
) -> Vec<Command> {
    let gone = have
        .iter()
        .filter(|(key, element)| want.get(*key) != Some(*element));
    let gone: Vec<Key> = gone.map(|(key, _)| key.clone()).collect();
    let new = want
        .iter()
        .filter(|(key, element)| have.get(*key) != Some(*element));
    let new: Vec<(Key, Element)> = new
        .map(|(key, element)| (key.clone(), element.clone()))
        .collect();
    let mut commands = Vec::new();
    if !gone.is_empty() {
        commands.push(Command::DeleteElements(set.to_owned(), gone));
    }
    if !new.is_empty() {
        commands.push(Command::AddElements(set.to_owned(), new));
    }
    commands
}

/// Everything of a table, each object after those that it names.
fn make(want: Table) -> Vec<Command> {
    let chains = want
        .chains
        .iter()
        .map(|(name, chain)| add_empty(name, chain));
    let rules = want
        .chains
        .iter()
        .flat_map(|(name, chain)| add_rules(name, chain));
    let sets = want.sets.into_iter().map(|(name, set)| add_set(name, set));
    [Command::AddTable]
        .into_iter()
        .chain(chains)
        .chain(sets)
        .chain(rules)
        .collect()
}

fn change(have: &ObservedTable, want: &Table) -> Vec<Command> {
    let mut commands = Vec::new();
    if have.dormant {
        commands.push(Command::AddTable);
    }
    let chains = want.chains.iter().filter(|(name, chain)| {
        have.chains
            .get(*name)
            .is_none_or(|have| have.base != chain.base)
    });
    commands.extend(chains.map(|(name, chain)| add_empty(name, chain)));
    for (name, set) in &want.sets {
        match have.sets.get(name) {
            Some(ObservedSet::Known(have)) if have.dynamic => {}
            Some(ObservedSet::Known(have)) => {
                commands.extend(elements_delta(name, &have.elements, &canonical(set)));
            }
            _ => commands.push(add_set(name.clone(), set.clone())),
        }
    }
    for (name, chain) in &want.chains {
        commands.extend(refill(name, have.chains.get(name), chain, want.family));
    }
    commands.extend(drop_unwanted(have, want));
    commands
}

/// Gives a chain its rules, if it has others.
fn refill(name: &str, have: Option<&ObservedChain>, want: &Chain, family: Family) -> Vec<Command> {
    let have = have.map_or(&[][..], |have| have.rules.as_slice());
    if has_rules(have, &want.rules, family) {
        return Vec::new();
    }
    let flush = (!have.is_empty()).then(|| Command::FlushChain(name.to_owned()));
    flush.into_iter().chain(add_rules(name, want)).collect()
}

/// Takes away all that packets could meet: rules, then base chains, whose policy may be to drop, and sets.
fn drop_unwanted(have: &ObservedTable, want: &Table) -> Vec<Command> {
    let mut commands = Vec::new();
    for (name, chain) in unwanted_chains(have, want) {
        if !chain.rules.is_empty() {
            commands.push(Command::FlushChain(name.clone()));
        }
        if chain.base.is_some() {
            commands.push(Command::DeleteChain(name.clone()));
        }
    }
    let sets = have
        .sets
        .keys()
        .filter(|name| !want.sets.contains_key(*name));
    commands.extend(sets.map(|name| Command::DeleteSet(name.clone())));
    commands
}

fn clean(have: &ObservedTable, want: &Table) -> Vec<Command> {
    unwanted_chains(have, want)
        .filter(|(_, chain)| chain.base.is_none())
        .map(|(name, _)| Command::DeleteChain(name.clone()))
        .collect()
}

fn unwanted_chains<'a>(
    have: &'a ObservedTable,
    want: &Table,
) -> impl Iterator<Item = (&'a String, &'a ObservedChain)> {
    have.chains
        .iter()
        .filter(|(name, _)| !want.chains.contains_key(*name))
}

/// Whether something has to be changed that can't be while it exists.
fn is_misshapen(have: &ObservedTable, want: &Table) -> bool {
    let chain = |(name, want): (&String, &Chain)| {
        let have = have.chains.get(name);
        have.is_some_and(|have| have.base.map(place) != want.base.map(place))
    };
    let set = |(name, want): (&String, &Set)| match have.sets.get(name) {
        None => false,
        Some(ObservedSet::Foreign) => true,
        Some(ObservedSet::Known(have)) => !has_shape(have, want),
    };
    want.chains.iter().any(chain) || want.sets.iter().any(set)
}

/// What of a base chain can't be changed: all but its policy.
fn place(base: BaseChain) -> impl PartialEq {
    (base.kind, base.hook, base.priority)
}

fn has_shape(have: &Set, want: &Set) -> bool {
    let shape = |set: &Set| {
        (
            set.key.clone(),
            set.data.clone(),
            set.size,
            set.interval,
            set.dynamic,
            set.comment.clone(),
        )
    };
    shape(have) == shape(want)
}

/// The elements as they will be read: the keys of an interval set are networks, without the bits behind the
/// prefix.
fn canonical(set: &Set) -> Cow<'_, BTreeMap<Key, Element>> {
    if !set.interval {
        return Cow::Borrowed(&set.elements);
    }
    let key = |key: &Key| key.iter().map(Value::as_network).collect();
    let elements = set.elements.iter();
    Cow::Owned(
        elements
            .map(|(old, element)| (key(old), element.clone()))
            .collect(),
    )
}

fn add_set(name: String, mut set: Set) -> Command {
    if set.interval {
        set.elements = canonical(&set).into_owned();
    }
    Command::AddSet(name, set)
}

/// Whether rules that were read are the wanted ones. A rule that can't be lowered is not there.
fn has_rules(have: &[ObservedRule], want: &[Rule], family: Family) -> bool {
    have.len() == want.len()
        && have.iter().zip(want).all(|(have, want)| {
            have.comment == want.comment && lower(want, family).as_ref() == Ok(&have.expressions)
        })
}

fn add_empty(name: &str, chain: &Chain) -> Command {
    let base = chain.base;
    Command::AddChain(
        name.to_owned(),
        Chain {
            base,
            rules: Vec::new(),
        },
    )
}

fn add_rules(name: &str, chain: &Chain) -> impl Iterator<Item = Command> {
    chain
        .rules
        .iter()
        .map(|rule| Command::AddRule(name.to_owned(), rule.clone()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::nft::{ChainKind, DataType, Fake, Hook, Policy, Statement, Verdict};

    fn base(policy: Policy, rules: Vec<Rule>) -> Chain {
        let base = BaseChain {
            kind: ChainKind::Filter,
            hook: Hook::Input,
            priority: 0,
            policy,
        };
        Chain {
            base: Some(base),
            rules,
        }
    }

    fn rule(statement: Statement) -> Rule {
        Rule {
            statements: vec![statement],
            comment: None,
        }
    }

    fn networks(networks: &[&str]) -> Set {
        let key = |text: &&str| vec![Value::Network(text.parse().unwrap())];
        Set {
            key: vec![DataType::Ipv4Addr],
            data: None,
            size: 0,
            interval: true,
            dynamic: false,
            comment: None,
            elements: networks
                .iter()
                .map(|text| (key(text), Element::default()))
                .collect(),
        }
    }

    fn table() -> Table {
        let jump = rule(Statement::Verdict(Verdict::Jump("other".into())));
        Table {
            family: Family::V4,
            name: "t".into(),
            chains: BTreeMap::from([
                ("input".into(), base(Policy::Accept, vec![jump])),
                (
                    "other".into(),
                    Chain {
                        base: None,
                        rules: vec![rule(Statement::Counter)],
                    },
                ),
            ]),
            sets: BTreeMap::from([(
                "networks".into(),
                networks(&["10.0.0.0/8", "192.168.1.0/24"]),
            )]),
        }
    }

    fn observed() -> ObservedTable {
        let mut fake = Fake::default();
        diff(None, &table())
            .iter()
            .for_each(|transaction| fake.apply(transaction).unwrap());
        fake.read(Family::V4, "t").unwrap()
    }

    /// The transactions from the table to what `change` makes of it, as text.
    fn change(change: impl FnOnce(&mut Table)) -> Vec<String> {
        let mut want = table();
        change(&mut want);
        diff(Some(&observed()), &want)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn nothing_is_sent_where_nothing_differs() {
        assert_eq!(change(|_| {}), Vec::<String>::new());
        let bits_behind_the_prefix = |table: &mut Table| {
            table.sets.insert(
                "networks".into(),
                networks(&["10.1.2.3/8", "192.168.1.9/24"]),
            );
        };
        assert_eq!(change(bits_behind_the_prefix), Vec::<String>::new());
    }

    #[test]
    fn a_single_address_in_an_interval_set_is_a_network() {
        let mut want = table();
        let key = vec![Value::Address([10, 0, 0, 1].into())];
        want.sets.get_mut("networks").unwrap().elements =
            BTreeMap::from([(key, Element::default())]);
        let text = diff(None, &want)[0].to_string();
        assert!(
            text.contains("add element ip t networks { 10.0.0.1/32 }"),
            "{text}"
        );
    }

    #[test]
    fn only_what_differs_is_sent() {
        let policy = change(|table| {
            table
                .chains
                .get_mut("input")
                .unwrap()
                .base
                .as_mut()
                .unwrap()
                .policy = Policy::Drop
        });
        assert_eq!(
            policy,
            ["add chain ip t input { type filter hook input priority 0; policy drop; }\n"]
        );
        let rules = change(|table| {
            table.chains.get_mut("other").unwrap().rules[0].comment = Some("c".into())
        });
        assert_eq!(
            rules,
            ["flush chain ip t other\nadd rule ip t other counter comment \"c\"\n"]
        );
        let elements = change(|table| {
            table.sets.insert(
                "networks".into(),
                networks(&["10.0.0.0/9", "192.168.1.0/24"]),
            );
        });
        assert_eq!(
            elements,
            [
                "delete element ip t networks { 10.0.0.0/8 }\nadd element ip t networks { 10.0.0.0/9 }\n"
            ]
        );
    }

    #[test]
    fn a_chain_goes_when_nothing_leads_to_it_any_more() {
        let regular = change(|table| {
            table.chains.remove("other");
            table.chains.get_mut("input").unwrap().rules.clear();
        });
        assert_eq!(
            regular,
            [
                "flush chain ip t input\nflush chain ip t other\n",
                "delete chain ip t other\n"
            ]
        );
        let base = change(|table| drop(table.chains.remove("input")));
        assert_eq!(base, ["flush chain ip t input\ndelete chain ip t input\n"]);
    }

    #[test]
    fn what_can_not_be_changed_is_replaced_with_the_table() {
        let size = change(|table| table.sets.get_mut("networks").unwrap().size = 7);
        let hook = change(|table| {
            table
                .chains
                .get_mut("input")
                .unwrap()
                .base
                .as_mut()
                .unwrap()
                .hook = Hook::Output;
        });
        let regular = change(|table| table.chains.get_mut("input").unwrap().base = None);
        for texts in [size, hook, regular] {
            assert_eq!(texts.len(), 1);
            assert!(
                texts[0].starts_with("delete table ip t\nadd table ip t\n"),
                "{}",
                texts[0]
            );
        }
    }

    #[test]
    fn a_dormant_table_is_woken() {
        let have = ObservedTable {
            dormant: true,
            ..observed()
        };
        let texts: Vec<String> = diff(Some(&have), &table())
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(texts, ["add table ip t\n"]);
    }
}
