//! What is sent before virtual servers change, and what after.

use std::collections::BTreeSet;

use kernel::nft::{Command, Key, Transaction};

/// Takes transactions apart: what is added or replaced comes before, what goes comes after. So there is no
/// moment in which a virtual server stands without the rules that belong to it.
pub fn phases(transactions: Vec<Transaction>) -> (Vec<Transaction>, Vec<Transaction>) {
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for transaction in transactions {
        let (before, after) = split(transaction);
        first.extend(Some(before).filter(|it| !it.commands.is_empty()));
        last.extend(Some(after).filter(|it| !it.commands.is_empty()));
    }
    (first, last)
}

fn split(transaction: Transaction) -> (Transaction, Transaction) {
    let Transaction {
        family,
        table,
        commands,
    } = transaction;
    let (mut before, mut after) = (Vec::new(), Vec::new());
    if commands.contains(&Command::DeleteTable) {
        before = commands;
    } else {
        for (place, command) in commands.iter().enumerate() {
            match command {
                Command::DeleteElements(set, keys) => {
                    let again = added(&commands[place..], set);
                    let replaced = |key: &&Key| again.contains(key);
                    let (now, later): (Vec<_>, Vec<_>) = keys.iter().partition(replaced);
                    let delete = |keys: Vec<&Key>| {
                        let keys: Vec<_> = keys.into_iter().cloned().collect();
                        let command = Command::DeleteElements(set.clone(), keys.clone());
                        (!keys.is_empty()).then_some(command)
                    };
                    before.extend(delete(now));
                    after.extend(delete(later));
                }
                Command::DeleteChain(_) | Command::DeleteSet(_) => after.push(command.clone()),
                _ => before.push(command.clone()),
            }
        }
    }
    let with = |commands| Transaction {
        family,
        table: table.clone(),
        commands,
    };
    (with(before), with(after))
}

/// The elements that commands add to a set.
fn added<'a>(commands: &'a [Command], set: &str) -> BTreeSet<&'a Key> {
    let of_set = commands.iter().filter_map(|command| match command {
        Command::AddElements(name, elements) if name == set => Some(elements),
        _ => None,
    });
    of_set.flatten().map(|(key, _)| key).collect()
}
