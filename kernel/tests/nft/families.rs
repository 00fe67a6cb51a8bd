//! Tables of families that have packets of more than one address family.

use kernel::{
    Family,
    nft::{
        BaseChain, Chain, ChainKind, Command, Fake, Field, Hook, Match, Operator, Rule, Statement,
        TableFamily, Transaction, Value, Verdict,
    },
};

use crate::sandbox::Sandbox;

fn is(field: Field, value: Value) -> Statement {
    Statement::Match(Match {
        field,
        operator: Operator::Is(value),
    })
}

fn is_not(field: Field, value: Value) -> Statement {
    Statement::Match(Match {
        field,
        operator: Operator::IsNot(value),
    })
}

fn network(text: &str) -> Value {
    Value::Network(text.parse().unwrap())
}

fn address(text: &str) -> Value {
    Value::Address(text.parse().unwrap())
}

fn chain(kind: ChainKind, hook: Hook, priority: i32) -> Chain {
    let base = BaseChain::accepting(kind, hook, priority);
    Chain {
        base: Some(base),
        rules: Vec::new(),
    }
}

/// Has the kernel make the rules of statements, and of texts by nft(8): both have to become the same, and
/// be listed as the texts.
fn compare(family: TableFamily, chain: Chain, rules: &[(Vec<Statement>, &str)]) {
    let mut sandbox = Sandbox::new();
    let mut fake = Fake::default();
    let add = |(statements, _): &(Vec<Statement>, &str)| {
        let rule = Rule {
            statements: statements.clone(),
            comment: None,
        };
        Command::AddRule("base".into(), rule)
    };
    let commands = [
        Command::AddCommentedTable("what it is for".into()),
        Command::AddCommentedChain("other".into(), Chain::default(), "leads nowhere".into()),
        Command::AddCommentedChain("base".into(), chain, "leads there".into()),
    ];
    let transaction = Transaction {
        family,
        table: "t".into(),
        commands: commands.into_iter().chain(rules.iter().map(add)).collect(),
    };
    sandbox.handle.apply(&transaction).unwrap();
    fake.apply(&transaction).unwrap();
    let listed = sandbox.list();
    for comment in ["what it is for", "leads nowhere", "leads there"] {
        assert!(
            listed.contains(&format!("comment \"{comment}\"")),
            "{listed}"
        );
    }
    for (name, there) in [("base", true), ("another", false)] {
        assert_eq!(sandbox.handle.has_chain(family, "t", name).unwrap(), there);
    }
    assert!(!sandbox.handle.has_chain(family, "u", "base").unwrap());
    let ours = sandbox.handle.read(family, "t").unwrap().unwrap();
    let imagined = fake.read(family, "t").unwrap();
    for (index, (_, text)) in rules.iter().enumerate() {
        assert!(listed.contains(text), "{text}: {listed}");
        let made = &ours.chains["base"].rules[index].expressions;
        assert_eq!(*made, imagined.chains["base"].rules[index].expressions);
    }
    sandbox
        .nft(&["delete", "table", &family.to_string(), "t"], "")
        .unwrap();
    sandbox.nft(&["-f", "-"], &transaction.to_string()).unwrap();
    assert_eq!(sandbox.list(), listed);
    let theirs = sandbox.handle.read(family, "t").unwrap().unwrap();
    for (ours, theirs) in ours.chains["base"]
        .rules
        .iter()
        .zip(&theirs.chains["base"].rules)
    {
        assert_eq!(ours.expressions, theirs.expressions);
    }
}

#[test]
fn rules_of_both_families_are_in_one_table() {
    let rules = [
        (
            vec![
                is(Field::DestinationAddress, network("224.0.0.0/4")),
                Statement::Verdict(Verdict::Return),
            ],
            "ip daddr 224.0.0.0/4 return",
        ),
        (
            vec![
                is(Field::SourceAddress, address("10.1.17.2")),
                is_not(Field::DestinationAddress, network("10.1.17.0/24")),
                Statement::Masquerade {
                    fully_random: false,
                },
            ],
            "ip saddr 10.1.17.2 ip daddr != 10.1.17.0/24 masquerade",
        ),
        (
            vec![
                is(Field::SourceAddress, address("fd00::2")),
                is_not(Field::DestinationAddress, network("fd00::/65")),
                Statement::Masquerade {
                    fully_random: false,
                },
            ],
            "ip6 saddr fd00::2 ip6 daddr != fd00::/65 masquerade",
        ),
        (
            vec![
                is(
                    Field::OutputInterface,
                    Value::IfName("eth0".parse().unwrap()),
                ),
                Statement::Verdict(Verdict::Goto("other".into())),
            ],
            "oifname \"eth0\" goto other",
        ),
    ];
    let base = chain(ChainKind::Nat, Hook::Postrouting, 100);
    compare(TableFamily::Inet, base, &rules);
}

#[test]
fn frames_are_told_by_their_source() {
    let rules = [
        (
            vec![
                is(
                    Field::InputInterface,
                    Value::IfName("veth0".parse().unwrap()),
                ),
                Statement::Verdict(Verdict::Jump("other".into())),
            ],
            "iifname \"veth0\" jump other",
        ),
        (
            vec![
                is(
                    Field::EtherSource,
                    Value::Mac("02:00:00:00:00:01".parse().unwrap()),
                ),
                Statement::Verdict(Verdict::Return),
            ],
            "ether saddr 02:00:00:00:00:01 return",
        ),
        (vec![Statement::Verdict(Verdict::Drop)], "drop"),
    ];
    let base = chain(ChainKind::Filter, Hook::Prerouting, -300);
    compare(TableFamily::Bridge, base, &rules);
}

#[test]
fn what_is_of_one_family_only_is_refused_by_name() {
    let mut sandbox = Sandbox::new();
    let mut fake = Fake::default();
    let refused = [
        (TableFamily::Inet, Statement::Reject, "reject"),
        (
            TableFamily::Bridge,
            is(Field::SourceAddress, address("10.0.0.1")),
            "ip saddr 10.0.0.1",
        ),
        (
            TableFamily::Inet,
            Statement::Dnat("10.0.0.1:80".parse().unwrap()),
            "dnat to 10.0.0.1:80",
        ),
    ];
    for (family, statement, text) in refused {
        let rule = Rule {
            statements: vec![statement],
            comment: None,
        };
        let commands = vec![
            Command::AddTable,
            Command::AddChain("c".into(), Chain::default()),
            Command::AddRule("c".into(), rule),
        ];
        let transaction = Transaction {
            family,
            table: "t".into(),
            commands,
        };
        for error in [sandbox.handle.apply(&transaction), fake.apply(&transaction)] {
            let error = error.unwrap_err().to_string();
            assert!(
                error.contains(&format!("`{text}` can only be in a table of one")),
                "{error}"
            );
        }
    }
    assert!(sandbox.handle.read(Family::V4, "t").unwrap().is_none());
}
