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
        None => vec![make(want)],
        Some(have) if is_misshapen(have, want) => {
            vec![[vec![Command::DeleteTable], make(want)].concat()]
        }
        Some(have) => vec![change(have, want), clean(have, want)],
    };
    batches
        .into_iter()
        .filter(|commands| !commands.is_empty())
        .map(|commands| Transaction {
            family: want.family,
            table: want.name.clone(),
            commands,
        })
        .collect()
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
fn make(want: &Table) -> Vec<Command> {
    let chains = want
        .chains
        .iter()
        .map(|(name, chain)| add_empty(name, chain));
    let sets = want
        .sets
        .iter()
        .map(|(name, set)| Command::AddSet(name.clone(), set.clone()));
    let rules = want
        .chains
        .iter()
        .flat_map(|(name, chain)| add_rules(name, chain));
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
            Some(ObservedSet::Known(have)) => {
                commands.extend(elements_delta(name, &have.elements, &canonical(set)));
            }
            _ => commands.push(Command::AddSet(name.clone(), set.clone())),
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
            set.comment.clone(),
        )
    };
    shape(have) == shape(want)
}

/// The elements as they will be read: networks without the bits behind the prefix.
fn canonical(set: &Set) -> Cow<'_, BTreeMap<Key, Element>> {
    if !set.interval {
        return Cow::Borrowed(&set.elements);
    }
    let elements = set.elements.iter();
    Cow::Owned(
        elements
            .map(|(key, element)| (key.iter().map(Value::canonical).collect(), element.clone()))
            .collect(),
    )
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
