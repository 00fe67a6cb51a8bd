//! Rules of an nftables table as it was read: found, compared with what is wanted, and deleted.

use kernel::nft::{Command, ObservedRule, ObservedTable, Rule, TableFamily, Transaction, lower};

/// The rules of a chain; none where the table or the chain is not there.
pub fn rules_of<'a>(
    table: Option<&'a ObservedTable>,
    chain: &str,
) -> impl Iterator<Item = &'a ObservedRule> + use<'a> {
    let chain = table.and_then(|table| table.chains.get(chain));
    chain.into_iter().flat_map(|chain| &chain.rules)
}

/// Whether a rule does what is wanted, and has its comment.
pub fn is(there: &ObservedRule, wanted: &Rule, family: TableFamily) -> bool {
    there.comment == wanted.comment
        && lower(wanted, family).is_ok_and(|does| does == there.expressions)
}

/// Whether rules are what is wanted, in its order.
pub fn are<'a>(
    there: impl IntoIterator<Item = &'a ObservedRule>,
    wanted: &[Rule],
    family: TableFamily,
) -> bool {
    let mut there = there.into_iter();
    let is_next = |wanted: &Rule| there.next().is_some_and(|it| is(it, wanted, family));
    wanted.iter().all(is_next) && there.next().is_none()
}

/// The command that deletes a rule.
pub fn deletion(chain: &str, rule: &ObservedRule) -> Command {
    Command::DeleteRule(chain.to_owned(), rule.handle)
}

/// Commands that are carried out together.
pub fn transaction(family: TableFamily, table: &str, commands: Vec<Command>) -> Transaction {
    Transaction {
        family,
        table: table.to_owned(),
        commands,
    }
}

/// [`transaction`]; `None` where there is nothing to be done.
pub fn transaction_if_any(
    family: TableFamily,
    table: &str,
    commands: Vec<Command>,
) -> Option<Transaction> {
    (!commands.is_empty()).then(|| transaction(family, table, commands))
}

/// A rule as the command that makes it.
pub fn addition_text(family: TableFamily, table: &str, chain: &str, rule: Rule) -> String {
    let addition = Command::AddRule(chain.to_owned(), rule);
    let text = transaction(family, table, vec![addition]).to_string();
    format!("nft {}", text.trim_end())
}
