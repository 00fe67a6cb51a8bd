//! The rules by which the bridge drops frames of a container that have another's Ethernet address
//! (`macspoofchk`).
//!
//! Table, chains and comments are those of the reference plugin, so that either removes what the other made:
//! `PREROUTING` leads from the host's end of a pair to a chain of the attachment, that to a second one, which
//! returns for the container's own address and drops what else there is.

use std::collections::BTreeMap;

use kernel::{
    IfName, Mac,
    nft::{
        BaseChain, Chain, ChainKind, Command, Expr, Field, Hook, Match, MetaKey, ObservedRule,
        ObservedTable, Operator, Rule, Statement, TableFamily, Transaction, Value, Verdict,
    },
};

use super::{
    host_veth::Identity,
    observed_rules::{addition_text, deletion, is, rules_of, transaction, transaction_if_any},
};

/// The table's family.
pub const FAMILY: TableFamily = TableFamily::Bridge;
/// The table.
pub const TABLE: &str = "nat";
const PREROUTING: &str = "PREROUTING";
/// Priority `dstnat` of the bridge family.
const PRIORITY: i32 = -300;
const CHAIN: &str = "cni-br-iface-";
const COMMENT: &str = "macspoofchk-";

/// What makes the rules of an attachment, in place of those that there are.
pub fn add(
    identity: &Identity,
    port: &IfName,
    mac: Mac,
    table: Option<&ObservedTable>,
) -> Transaction {
    let reference = reference(identity);
    let base = BaseChain::accepting(ChainKind::Filter, Hook::Prerouting, PRIORITY);
    let entry = Chain {
        base: Some(base),
        rules: Vec::new(),
    };
    let mut commands = vec![
        Command::AddTable,
        Command::AddChain(PREROUTING.to_owned(), entry),
    ];
    for name in chains(&reference) {
        commands.push(Command::AddChain(name.clone(), Chain::default()));
        commands.push(Command::FlushChain(name));
    }
    commands.extend(entry_deletions(table, &reference));
    let rules = rules(&reference, port, mac).into_iter();
    commands.extend(rules.map(|(chain, rule)| Command::AddRule(chain, rule)));
    transaction(FAMILY, TABLE, commands)
}

/// What removes the rules of an attachment; `None` if there are none.
pub fn delete(identity: &Identity, table: &ObservedTable) -> Option<Transaction> {
    removal(&reference(identity), table)
}

/// What removes the rules of attachments that are not in use and whose interface is gone. The rules don't say
/// the network: an attachment of another one that is not listed here still has its interface.
pub fn collect(
    table: &ObservedTable,
    is_in_use: impl Fn(&str) -> bool,
    is_there: impl Fn(&str) -> bool,
) -> Vec<Transaction> {
    let found = rules_of(Some(table), PREROUTING).filter_map(|rule| {
        let reference = rule.comment.as_deref()?.strip_prefix(COMMENT)?;
        Some((reference, interface_of(rule)?))
    });
    let references: BTreeMap<&str, String> = found.collect();
    let left = references
        .into_iter()
        .filter(|(reference, port)| !is_in_use(reference) && !is_there(port));
    left.filter_map(|(reference, _)| removal(reference, table))
        .collect()
}

/// The first rule that is not there, as the command that makes it.
pub fn missing(
    identity: &Identity,
    port: &IfName,
    mac: Mac,
    table: Option<&ObservedTable>,
) -> Option<String> {
    let mut wanted = rules(&reference(identity), port, mac).into_iter();
    let (chain, rule) = wanted
        .find(|(chain, rule)| !rules_of(table, chain).any(|there| is(there, rule, FAMILY)))?;
    Some(addition_text(FAMILY, TABLE, &chain, rule))
}

/// What an attachment is known by in names and comments.
pub fn reference(identity: &Identity) -> String {
    format!("{}-{}", identity.container_id, identity.if_name)
}

/// The attachment's chains, the one that leads to the other first.
fn chains(reference: &str) -> [String; 2] {
    [
        format!("{CHAIN}{reference}"),
        format!("{CHAIN}{reference}-mac"),
    ]
}

fn rules(reference: &str, port: &IfName, mac: Mac) -> Vec<(String, Rule)> {
    let [chain, mac_chain] = chains(reference);
    let is = |field, value| {
        let operator = Operator::Is(value);
        Statement::Match(Match { field, operator })
    };
    let jump = |chain: &String| Statement::Verdict(Verdict::Jump(chain.clone()));
    let from_port = is(Field::InputInterface, Value::IfName(port.clone()));
    let own = is(Field::EtherSource, Value::Mac(mac));
    let rules = [
        (PREROUTING.to_owned(), vec![from_port, jump(&chain)]),
        (chain, vec![jump(&mac_chain)]),
        (
            mac_chain.clone(),
            vec![own, Statement::Verdict(Verdict::Return)],
        ),
        (mac_chain, vec![Statement::Verdict(Verdict::Drop)]),
    ];
    let comment = Some(format!("{COMMENT}{reference}"));
    let rule = |statements| Rule {
        statements,
        comment: comment.clone(),
    };
    rules
        .into_iter()
        .map(|(chain, statements)| (chain, rule(statements)))
        .collect()
}

fn removal(reference: &str, table: &ObservedTable) -> Option<Transaction> {
    let mut commands: Vec<Command> = entry_deletions(Some(table), reference).collect();
    let chains = chains(reference).into_iter();
    let there = chains.filter(|name| table.chains.contains_key(name));
    commands.extend(there.map(Command::DeleteChain));
    transaction_if_any(FAMILY, TABLE, commands)
}

/// The commands that delete the rules that lead to an attachment's chains.
fn entry_deletions(
    table: Option<&ObservedTable>,
    reference: &str,
) -> impl Iterator<Item = Command> {
    let comment = format!("{COMMENT}{reference}");
    rules_of(table, PREROUTING)
        .filter(move |rule| rule.comment.as_ref() == Some(&comment))
        .map(|rule| deletion(PREROUTING, rule))
}

/// The interface that a rule takes frames from.
fn interface_of(rule: &ObservedRule) -> Option<String> {
    let [
        Expr::Meta {
            key: MetaKey::InputName,
            ..
        },
        Expr::Compare {
            negated: false,
            value,
            ..
        },
        ..,
    ] = rule.expressions.as_slice()
    else {
        return None;
    };
    let name = value.split(|byte| *byte == 0).next()?;
    String::from_utf8(name.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use kernel::nft::Fake;

    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn identity(if_name: &str) -> Identity {
        Identity {
            network: "n".into(),
            container_id: "c1".into(),
            if_name: if_name.into(),
        }
    }

    fn port(name: &str) -> IfName {
        name.parse().unwrap()
    }

    fn made() -> Fake {
        let mut fake = Fake::default();
        for (if_name, name) in [("eth0", "veth0"), ("eth1", "veth1"), ("eth0", "veth0")] {
            let table = fake.read(FAMILY, TABLE);
            let transaction = add(&identity(if_name), &port(name), MAC, table.as_ref());
            fake.apply(&transaction).unwrap();
        }
        fake
    }

    #[test]
    fn each_rule_that_is_lost_is_named() {
        let table = made().read(FAMILY, TABLE).unwrap();
        let lost =
            |table: &ObservedTable| missing(&identity("eth0"), &port("veth0"), MAC, Some(table));
        assert_eq!(lost(&table), None);
        let (mut named, mut count) = (0, 0);
        for (name, chain) in &table.chains {
            for index in 0..chain.rules.len() {
                let mut damaged = table.clone();
                damaged.chains.get_mut(name).unwrap().rules.remove(index);
                let start = format!("nft add rule bridge nat {name} ");
                named += usize::from(lost(&damaged).is_some_and(|text| text.starts_with(&start)));
                count += 1;
            }
        }
        assert_eq!((named, count), (4, 8));
    }

    #[test]
    fn each_interface_has_rules_of_its_own() {
        let mut fake = made();
        let table = fake.read(FAMILY, TABLE).unwrap();
        fake.apply(&delete(&identity("eth0"), &table).unwrap())
            .unwrap();
        let table = fake.read(FAMILY, TABLE).unwrap();
        assert_eq!(delete(&identity("eth0"), &table), None);
        let other = missing(&identity("eth1"), &port("veth1"), MAC, Some(&table));
        assert_eq!(other, None);
    }

    #[test]
    fn only_what_is_not_in_use_and_has_no_interface_is_collected() {
        let table = made().read(FAMILY, TABLE).unwrap();
        let count =
            |used: &str, there: &str| collect(&table, |it| it == used, |it| it == there).len();
        assert_eq!(count("", ""), 2);
        assert_eq!(count("c1-eth0", ""), 1);
        assert_eq!(count("", "veth1"), 1);
        assert_eq!(count("c1-eth0", "veth1"), 0);
    }
}
