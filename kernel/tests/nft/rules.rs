//! Single rules: translation to a constant, and removal by handle.

use kernel::{
    Family,
    nft::{
        Chain, ChainKind, Command, Fake, Field, Hook, Match, Operator, Rule, Statement,
        Transaction, Value,
    },
};

use crate::sandbox::Sandbox;

fn port_forward(destination: &str, comment: &str) -> Rule {
    let is = |field, value| {
        Statement::Match(Match {
            field,
            operator: Operator::Is(value),
        })
    };
    Rule {
        statements: vec![
            is(Field::Protocol, Value::Protocol(6)),
            is(Field::DestinationPort, Value::Port(8080)),
            Statement::Dnat(destination.parse().unwrap()),
        ],
        comment: Some(comment.into()),
    }
}

fn nat_chain() -> Command {
    let base = kernel::nft::BaseChain {
        kind: ChainKind::Nat,
        hook: Hook::Prerouting,
        priority: -100,
        policy: kernel::nft::Policy::Accept,
    };
    Command::AddChain(
        "prerouting".into(),
        Chain {
            base: Some(base),
            rules: Vec::new(),
        },
    )
}

fn transaction(family: Family, commands: Vec<Command>) -> Transaction {
    Transaction {
        family: family.into(),
        table: "t".into(),
        commands,
    }
}

#[test]
fn a_constant_destination_is_the_rule_that_nft_makes_of_its_text() {
    for (family, name, destination) in [
        (Family::V4, "ip", "10.1.2.3:80"),
        (Family::V6, "ip6", "[fd00::3]:80"),
    ] {
        let mut sandbox = Sandbox::new();
        let rule = port_forward(destination, "c1");
        let commands = vec![
            Command::AddTable,
            nat_chain(),
            Command::AddRule("prerouting".into(), rule),
        ];
        sandbox
            .handle
            .apply(&transaction(family, commands))
            .unwrap();
        let text = format!("tcp dport 8080 dnat to {destination} comment \"c1\"");
        assert!(sandbox.list().contains(&text), "{}", sandbox.list());
        let add = format!("add rule {name} t prerouting {text}");
        sandbox.nft(&["-f", "-"], &add).unwrap();
        let table = sandbox.handle.read(family, "t").unwrap().unwrap();
        let [ours, theirs] = table.chains["prerouting"].rules.as_slice() else {
            panic!("{table:?}")
        };
        assert_eq!(ours.expressions, theirs.expressions);
    }
}

#[test]
fn a_rule_is_deleted_by_its_handle() {
    let mut sandbox = Sandbox::new();
    let mut fake = Fake::default();
    let rule =
        |comment| Command::AddRule("prerouting".into(), port_forward("10.1.2.3:80", comment));
    let made = transaction(
        Family::V4,
        vec![
            Command::AddTable,
            nat_chain(),
            rule("a"),
            rule("b"),
            rule("c"),
        ],
    );
    sandbox.handle.apply(&made).unwrap();
    fake.apply(&made).unwrap();
    let comments = |table: kernel::nft::ObservedTable| -> Vec<(u64, String)> {
        let rules = table.chains["prerouting"].rules.iter();
        rules
            .map(|rule| (rule.handle, rule.comment.clone().unwrap()))
            .collect()
    };
    let handle = |rules: &[(u64, String)]| rules.iter().find(|(_, it)| it == "b").unwrap().0;

    let real = comments(sandbox.handle.read(Family::V4, "t").unwrap().unwrap());
    let delete = |handle| {
        transaction(
            Family::V4,
            vec![Command::DeleteRule("prerouting".into(), handle)],
        )
    };
    sandbox.handle.apply(&delete(handle(&real))).unwrap();
    let left = comments(sandbox.handle.read(Family::V4, "t").unwrap().unwrap());
    assert_eq!(left, [real[0].clone(), real[2].clone()]);
    let error = sandbox.handle.apply(&delete(handle(&real))).unwrap_err();
    assert!(error.is_not_found(), "{error}");

    let faked = comments(fake.read(Family::V4, "t").unwrap());
    fake.apply(&delete(handle(&faked))).unwrap();
    let left = comments(fake.read(Family::V4, "t").unwrap());
    assert_eq!(left, [faked[0].clone(), faked[2].clone()]);
    assert!(
        fake.apply(&delete(handle(&faked)))
            .unwrap_err()
            .is_not_found()
    );
}

#[test]
fn a_destination_of_the_other_family_is_refused() {
    let mut sandbox = Sandbox::new();
    let rule = port_forward("[fd00::3]:80", "c1");
    let commands = vec![
        Command::AddTable,
        nat_chain(),
        Command::AddRule("prerouting".into(), rule),
    ];
    let refused = sandbox.handle.apply(&transaction(Family::V4, commands));
    assert!(refused.is_err());
}
