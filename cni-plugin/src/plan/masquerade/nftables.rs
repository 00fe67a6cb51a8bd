//! The rules in nftables: one for each address, in a table of both families.
//!
//! A rule's comment begins with hashes of the network's name and of the attachment, by which either plugin
//! finds what it has to remove.

use std::collections::BTreeSet;

use ipnetwork::IpNetwork;
use kernel::{
    Family,
    nft::{
        BaseChain, Chain, ChainKind, Command, Field, Hook, Match, ObservedRule, ObservedTable,
        Operator, Rule, Statement, TableFamily, Transaction, Value, Verdict,
    },
};

use crate::plan::{
    hashed_name::hashed,
    host_veth::Identity,
    observed_rules::{addition_text, are, deletion, is, rules_of, transaction_if_any},
};

/// The table's family.
pub const FAMILY: TableFamily = TableFamily::Inet;
/// The table.
pub const TABLE: &str = "cni_plugins_masquerade";
/// Has the rules of all containers.
const CHECKS: &str = "masq_checks";
const POSTROUTING: &str = "postrouting";
const TABLE_COMMENT: &str = "Masquerading for plugins from github.com/containernetworking/plugins";
const CHECKS_COMMENT: &str =
    "Masquerade traffic from certain IPs to any (non-multicast) IP outside their subnet";
/// Priority `srcnat`.
const PRIORITY: i32 = 100;
/// What is never masqueraded.
const MULTICAST: [&str; 2] = ["224.0.0.0/4", "ff00::/8"];
/// Length of the hashes in comments, in characters.
const HASH_LEN: usize = 16;
/// The longest comment, in bytes.
const COMMENT_LEN: usize = 128;

/// What makes the rules of an attachment; `None` if they are there. `table` is the table as it is.
pub fn add(
    identity: &Identity,
    addresses: &[IpNetwork],
    table: Option<&ObservedTable>,
) -> Option<Transaction> {
    let mut commands = shared(table);
    let wanted: Vec<Rule> = addresses.iter().map(|it| rule_of(identity, *it)).collect();
    let there = checks(table, &hash_of(identity));
    if !are(there.iter().copied(), &wanted, FAMILY) {
        commands.extend(there.iter().map(|rule| deletion(CHECKS, rule)));
        let added = wanted.into_iter();
        commands.extend(added.map(|rule| Command::AddRule(CHECKS.to_owned(), rule)));
    }
    transaction_if_any(FAMILY, TABLE, commands)
}

/// What removes the rules of an attachment; `None` if there are none.
pub fn delete(identity: &Identity, table: &ObservedTable) -> Option<Transaction> {
    let rules = checks(Some(table), &hash_of(identity)).into_iter();
    let commands = rules.map(|rule| deletion(CHECKS, rule)).collect();
    transaction_if_any(FAMILY, TABLE, commands)
}

/// What removes the rules of a network's attachments that are none of `valid`; `None` if there are none.
pub fn collect(
    network: &str,
    valid: impl Iterator<Item = Identity>,
    table: &ObservedTable,
) -> Option<Transaction> {
    let kept: BTreeSet<String> = valid.map(|identity| hash_of(&identity)).collect();
    let is_kept = |rule: &ObservedRule| {
        let comment = rule.comment.as_deref().unwrap_or_default();
        kept.iter().any(|hash| comment.starts_with(hash))
    };
    let rules = checks(Some(table), &format!("{}-", hash(network))).into_iter();
    let left = rules.filter(|rule| !is_kept(rule));
    let commands = left.map(|rule| deletion(CHECKS, rule)).collect();
    transaction_if_any(FAMILY, TABLE, commands)
}

/// The first rule of an attachment that is not there, as the command that makes it.
pub fn missing(
    identity: &Identity,
    addresses: &[IpNetwork],
    table: Option<&ObservedTable>,
) -> Option<String> {
    let shared = postrouting().into_iter().map(|rule| (POSTROUTING, rule));
    let own = addresses.iter().map(|it| (CHECKS, rule_of(identity, *it)));
    let mut wanted = shared.chain(own);
    let has = |chain, rule: &Rule| rules_of(table, chain).any(|there| is(there, rule, FAMILY));
    let (chain, rule) = wanted.find(|(chain, rule)| !has(chain, rule))?;
    Some(addition_text(FAMILY, TABLE, chain, rule))
}

/// What the table lacks of that which all containers share.
fn shared(table: Option<&ObservedTable>) -> Vec<Command> {
    let mut commands = Vec::new();
    if table.is_none() {
        commands.push(Command::AddCommentedTable(TABLE_COMMENT.to_owned()));
    }
    let chain = |name: &str| table.and_then(|table| table.chains.get(name));
    if chain(CHECKS).is_none() {
        let comment = CHECKS_COMMENT.to_owned();
        commands.push(Command::AddCommentedChain(
            CHECKS.to_owned(),
            Chain::default(),
            comment,
        ));
    }
    if are(rules_of(table, POSTROUTING), &postrouting(), FAMILY) {
        return commands;
    }
    let base = BaseChain::accepting(ChainKind::Nat, Hook::Postrouting, PRIORITY);
    if chain(POSTROUTING).is_some() {
        commands.push(Command::FlushChain(POSTROUTING.to_owned()));
    }
    commands.push(Command::AddChain(
        POSTROUTING.to_owned(),
        Chain {
            base: Some(base),
            rules: postrouting(),
        },
    ));
    commands
}

fn postrouting() -> Vec<Rule> {
    let multicast = MULTICAST.into_iter().filter_map(|text| {
        let network = Value::Network(text.parse().ok()?);
        let to = Operator::Is(network);
        Some(vec![
            compare(Field::DestinationAddress, to),
            Statement::Verdict(Verdict::Return),
        ])
    });
    let goto = vec![Statement::Verdict(Verdict::Goto(CHECKS.to_owned()))];
    let rule = |statements| Rule {
        statements,
        comment: None,
    };
    multicast.chain([goto]).map(rule).collect()
}

/// Masquerades what an address sends out of its subnet.
fn rule_of(identity: &Identity, address: IpNetwork) -> Rule {
    let subnet = IpNetwork::new(address.network(), address.prefix()).unwrap_or(address);
    let subnet = match address.prefix() == Family::of_network(&address).max_prefix() {
        // nft writes a network of one address as the address.
        true => Value::Address(address.ip()),
        false => Value::Network(subnet),
    };
    Rule {
        statements: vec![
            compare(
                Field::SourceAddress,
                Operator::Is(Value::Address(address.ip())),
            ),
            compare(Field::DestinationAddress, Operator::IsNot(subnet)),
            Statement::Masquerade {
                fully_random: false,
            },
        ],
        comment: Some(comment(identity)),
    }
}

fn comment(identity: &Identity) -> String {
    let Identity {
        network,
        container_id,
        if_name,
    } = identity;
    let hash = hash_of(identity);
    let whole = format!("{hash}, net: {network}, if: {if_name}, id: {container_id}");
    let mut comment = whole.replace('"', "");
    let mut ends = (0..=COMMENT_LEN).rev();
    let end = ends.find(|end| comment.is_char_boundary(*end));
    comment.truncate(end.unwrap_or_default());
    comment
}

/// What a comment of an attachment begins with.
fn hash_of(identity: &Identity) -> String {
    let Identity {
        network,
        container_id,
        if_name,
    } = identity;
    let instance = format!("{if_name}:{container_id}");
    format!("{}-{}", hash(network), hash(&instance))
}

fn hash(text: &str) -> String {
    hashed(HASH_LEN, "", text)
}

fn compare(field: Field, operator: Operator) -> Statement {
    Statement::Match(Match { field, operator })
}

/// The rules of [`CHECKS`] whose comment begins so.
fn checks<'a>(table: Option<&'a ObservedTable>, start: &str) -> Vec<&'a ObservedRule> {
    let begins = |rule: &&ObservedRule| {
        let comment = rule.comment.as_ref();
        comment.is_some_and(|comment| comment.starts_with(start))
    };
    rules_of(table, CHECKS).filter(begins).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use kernel::nft::Fake;

    use super::*;

    fn identity(container_id: &str, if_name: &str) -> Identity {
        Identity {
            network: "cbr0".into(),
            container_id: container_id.into(),
            if_name: if_name.into(),
        }
    }

    fn addresses() -> [IpNetwork; 2] {
        ["10.1.17.2/24", "fd00::2/64"].map(|text| text.parse().unwrap())
    }

    fn make(fake: &mut Fake, identity: &Identity) -> bool {
        let table = fake.read(FAMILY, TABLE);
        let transaction = add(identity, &addresses(), table.as_ref());
        transaction.iter().for_each(|it| fake.apply(it).unwrap());
        transaction.is_some()
    }

    #[test]
    fn rules_are_made_once_and_each_that_is_lost_is_named() {
        let mut fake = Fake::default();
        let eth0 = identity("c1", "eth0");
        assert!(make(&mut fake, &eth0));
        assert!(!make(&mut fake, &eth0));
        let table = fake.read(FAMILY, TABLE).unwrap();
        assert_eq!(missing(&eth0, &addresses(), Some(&table)), None);
        let mut lost = 0;
        for (name, chain) in &table.chains {
            for index in 0..chain.rules.len() {
                let mut damaged = table.clone();
                damaged.chains.get_mut(name).unwrap().rules.remove(index);
                let text = missing(&eth0, &addresses(), Some(&damaged)).unwrap();
                let start = format!("nft add rule inet cni_plugins_masquerade {name} ");
                assert!(text.starts_with(&start), "{text}");
                assert!(add(&eth0, &addresses(), Some(&damaged)).is_some());
                lost += 1;
            }
        }
        assert_eq!(lost, 5);
    }

    #[test]
    fn each_interface_has_rules_of_its_own() {
        let mut fake = Fake::default();
        let (eth0, eth1, other) = (
            identity("c1", "eth0"),
            identity("c1", "eth1"),
            identity("c2", "eth0"),
        );
        for identity in [&eth0, &eth1, &other] {
            make(&mut fake, identity);
        }
        let table = fake.read(FAMILY, TABLE).unwrap();
        fake.apply(&delete(&eth0, &table).unwrap()).unwrap();
        let table = fake.read(FAMILY, TABLE).unwrap();
        assert_eq!(delete(&eth0, &table), None);
        assert_eq!(missing(&eth1, &addresses(), Some(&table)), None);
        assert_eq!(collect("cbr", [].into_iter(), &table), None);
        let valid = [eth1.clone()].into_iter();
        fake.apply(&collect("cbr0", valid, &table).unwrap())
            .unwrap();
        let table = fake.read(FAMILY, TABLE).unwrap();
        assert_eq!(missing(&eth1, &addresses(), Some(&table)), None);
        assert_eq!(delete(&other, &table), None);
    }

    #[test]
    fn a_comment_is_cut_where_the_reference_cuts_it() {
        let long = comment(&identity(&"c".repeat(200), "eth0"));
        assert_eq!(long.len(), 128);
        assert!(long.ends_with("cccc"));
        let short = comment(&identity("c1", "eth0"));
        assert!(short.ends_with(", net: cbr0, if: eth0, id: c1"), "{short}");
    }
}
