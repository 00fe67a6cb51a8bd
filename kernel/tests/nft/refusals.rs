//! [`Fake`] refuses what the kernel refuses, with the same error number.

use std::{collections::BTreeMap, net::IpAddr};

use kernel::{
    Family,
    nft::{
        BaseChain, Chain, ChainKind, Command, Data, DataType, Element, Fake, Field, Hook, Key,
        Rule, Set, SetData, Statement, Transaction, Value, Verdict,
    },
};
use nix::errno::Errno;

use crate::{convergence::without_generation, sandbox::Sandbox};

fn transaction(commands: Vec<Command>) -> Transaction {
    Transaction {
        family: Family::V4.into(),
        table: "t".into(),
        commands,
    }
}

fn chain(statements: &[Statement]) -> Chain {
    let rule = Rule {
        statements: statements.to_vec(),
        comment: None,
    };
    Chain {
        base: None,
        rules: vec![rule],
    }
}

fn base(kind: ChainKind, hook: Hook, statements: &[Statement]) -> Chain {
    let base = BaseChain::accepting(kind, hook, 0);
    Chain {
        base: Some(base),
        ..chain(statements)
    }
}

fn set(key: &[DataType], data: Option<SetData>) -> Set {
    Set {
        key: key.to_vec(),
        data,
        size: 2,
        interval: false,
        dynamic: false,
        comment: None,
        elements: BTreeMap::new(),
    }
}

fn networks() -> Set {
    Set {
        interval: true,
        size: 0,
        ..set(&[DataType::Ipv4Addr], None)
    }
}

fn address(last: u8) -> Value {
    Value::Address(IpAddr::from([10, 0, 0, last]))
}

fn network(text: &str) -> Value {
    Value::Network(text.parse().unwrap())
}

fn add(set: &str, key: &[Value], data: Option<Data>) -> Command {
    let element = Element {
        data,
        comment: None,
    };
    Command::AddElements(set.into(), vec![(key.to_vec(), element)])
}

fn delete(set: &str, key: &[Value]) -> Command {
    let keys: Vec<Key> = vec![key.to_vec()];
    Command::DeleteElements(set.into(), keys)
}

fn goto(chain: &str) -> Verdict {
    Verdict::Goto(chain.into())
}

fn lead_to(chain: &str) -> Option<Data> {
    Some(Data::Verdict(goto(chain)))
}

fn add_chain(name: &str, chain: Chain) -> Command {
    Command::AddChain(name.into(), chain)
}

fn add_rule(chain_name: &str, statement: Statement) -> Command {
    Command::AddRule(
        chain_name.into(),
        Rule {
            statements: vec![statement],
            comment: None,
        },
    )
}

fn look_up(field: Field, map: &str) -> Statement {
    Statement::VerdictMap {
        fields: vec![field],
        map: map.into(),
    }
}

/// A table with something of everything.
fn standing() -> Transaction {
    let verdicts = set(&[DataType::Ipv4Addr], Some(SetData::Verdict));
    let ports = Some(SetData::Value(vec![
        DataType::Ipv4Addr,
        DataType::InetService,
    ]));
    transaction(vec![
        Command::AddTable,
        Command::AddSet("addresses".into(), set(&[DataType::Ipv4Addr], None)),
        Command::AddSet("verdicts".into(), verdicts),
        Command::AddSet("endpoints".into(), set(&[DataType::Ipv4Addr], ports)),
        Command::AddSet("networks".into(), networks()),
        add_chain("target", Chain::default()),
        add_chain("free", Chain::default()),
        add_chain(
            "input",
            base(
                ChainKind::Filter,
                Hook::Input,
                &[look_up(Field::SourceAddress, "verdicts")],
            ),
        ),
        add_chain(
            "to",
            base(ChainKind::Nat, Hook::Prerouting, &[Statement::Counter]),
        ),
        add("addresses", &[address(1)], None),
        add("verdicts", &[address(1)], lead_to("target")),
        add("networks", &[network("10.0.0.0/8")], None),
    ])
}

/// What is refused, and how.
fn refused() -> Vec<(Vec<Command>, Errno)> {
    let masquerade = Statement::Masquerade {
        fully_random: false,
    };
    let translate = Statement::DnatMap {
        fields: vec![Field::SourceAddress],
        map: "endpoints".into(),
    };
    let other_key = set(&[DataType::InetService], None);
    let key_only = Some(Data::Value(vec![address(9)]));
    vec![
        (vec![Command::FlushChain("none".into())], Errno::ENOENT),
        (vec![Command::DeleteChain("none".into())], Errno::ENOENT),
        (vec![Command::DeleteSet("none".into())], Errno::ENOENT),
        (
            vec![Command::DeleteTable, Command::DeleteTable],
            Errno::ENOENT,
        ),
        (
            vec![Command::DeleteTable, add_chain("c", Chain::default())],
            Errno::ENOENT,
        ),
        (vec![add_rule("none", Statement::Counter)], Errno::ENOENT),
        (
            vec![add_rule("free", Statement::Verdict(goto("none")))],
            Errno::ENOENT,
        ),
        (
            vec![add_rule("free", Statement::Verdict(goto("input")))],
            Errno::EOPNOTSUPP,
        ),
        (
            vec![add_rule("free", look_up(Field::SourceAddress, "none"))],
            Errno::ENOENT,
        ),
        (
            vec![add_rule("free", look_up(Field::SourceAddress, "addresses"))],
            Errno::EINVAL,
        ),
        (vec![Command::DeleteChain("target".into())], Errno::EBUSY),
        (vec![Command::DeleteSet("verdicts".into())], Errno::EBUSY),
        (
            vec![add_chain(
                "input",
                base(ChainKind::Filter, Hook::Output, &[]),
            )],
            Errno::EOPNOTSUPP,
        ),
        (
            vec![add_chain(
                "free",
                base(ChainKind::Filter, Hook::Output, &[]),
            )],
            Errno::EOPNOTSUPP,
        ),
        (
            vec![Command::AddSet("addresses".into(), other_key)],
            Errno::EEXIST,
        ),
        (
            vec![Command::AddSet("addresses".into(), networks())],
            Errno::EEXIST,
        ),
        (vec![add("none", &[address(1)], None)], Errno::ENOENT),
        (
            vec![add("addresses", &[address(1), address(2)], None)],
            Errno::EINVAL,
        ),
        (
            vec![add("addresses", &[Value::Port(80)], None)],
            Errno::EINVAL,
        ),
        (
            vec![add("addresses", &[address(2)], lead_to("target"))],
            Errno::EINVAL,
        ),
        (
            vec![add("addresses", &[network("10.0.0.0/8")], None)],
            Errno::EINVAL,
        ),
        (vec![add("verdicts", &[address(2)], None)], Errno::EINVAL),
        (
            vec![add("verdicts", &[address(2)], lead_to("none"))],
            Errno::ENOENT,
        ),
        (
            vec![add("verdicts", &[address(2)], lead_to("input"))],
            Errno::EOPNOTSUPP,
        ),
        (
            vec![add("verdicts", &[address(1)], lead_to("free"))],
            Errno::EEXIST,
        ),
        (
            vec![add("endpoints", &[address(2)], key_only)],
            Errno::EINVAL,
        ),
        (
            vec![
                add("addresses", &[address(2)], None),
                add("addresses", &[address(3)], None),
            ],
            Errno::ENFILE,
        ),
        (vec![delete("addresses", &[address(2)])], Errno::ENOENT),
        (
            vec![delete("networks", &[network("11.0.0.0/8")])],
            Errno::ENOENT,
        ),
        (
            vec![add("networks", &[network("10.1.0.0/16")], None)],
            Errno::EEXIST,
        ),
        (
            vec![add_rule("input", masquerade.clone())],
            Errno::EOPNOTSUPP,
        ),
        (vec![add_rule("target", masquerade)], Errno::EOPNOTSUPP),
        (vec![add_rule("target", translate)], Errno::EOPNOTSUPP),
        (
            vec![add_rule("target", Statement::Verdict(goto("target")))],
            Errno::EMLINK,
        ),
    ]
}

/// What is taken, though it looks similar.
fn taken() -> Vec<Vec<Command>> {
    let translate = Statement::DnatMap {
        fields: vec![Field::SourceAddress],
        map: "endpoints".into(),
    };
    vec![
        vec![],
        vec![Command::AddTable],
        vec![Command::DeleteTable, Command::AddTable],
        vec![Command::AddSet(
            "addresses".into(),
            set(&[DataType::Ipv4Addr], None),
        )],
        vec![add_chain("free", Chain::default())],
        vec![add("addresses", &[address(1)], None)],
        vec![add("verdicts", &[address(1)], lead_to("target"))],
        vec![
            delete("addresses", &[address(1)]),
            add("addresses", &[address(1)], None),
        ],
        vec![
            delete("addresses", &[address(1)]),
            add("addresses", &[address(2)], None),
            add("addresses", &[address(3)], None),
        ],
        vec![
            delete("networks", &[network("10.0.0.0/8")]),
            add("networks", &[network("10.0.0.0/9")], None),
        ],
        vec![add("networks", &[network("11.0.0.0/8")], None)],
        vec![add_rule("to", translate)],
        vec![add_rule("free", Statement::Verdict(goto("free")))],
        vec![
            Command::FlushChain("input".into()),
            Command::DeleteSet("verdicts".into()),
        ],
        vec![
            Command::FlushChain("input".into()),
            Command::DeleteChain("input".into()),
        ],
    ]
}

#[test]
fn the_kernel_and_the_fake_refuse_alike_and_leave_all_as_it_was() {
    let mut sandbox = Sandbox::new();
    let mut fake = Fake::default();
    sandbox.handle.apply(&standing()).unwrap();
    fake.apply(&standing()).unwrap();
    let before = sandbox.handle.read(Family::V4, "t").unwrap();
    let fake_before = fake.read(Family::V4, "t");
    assert_eq!(
        without_generation(fake_before.clone()),
        without_generation(before.clone())
    );
    for (commands, errno) in refused() {
        let transaction = transaction(commands);
        let by_kernel = sandbox
            .handle
            .apply(&transaction)
            .expect_err(&transaction.to_string());
        let by_fake = fake
            .apply(&transaction)
            .expect_err(&transaction.to_string());
        assert_eq!(
            (by_kernel.errno(), by_fake.errno()),
            (Some(errno), Some(errno)),
            "{transaction}\n{by_kernel}"
        );
        assert_eq!(
            sandbox.handle.read(Family::V4, "t").unwrap(),
            before,
            "{transaction}"
        );
        assert_eq!(fake.read(Family::V4, "t"), fake_before, "{transaction}");
    }
}

#[test]
fn the_kernel_and_the_fake_take_alike() {
    for commands in taken() {
        let mut sandbox = Sandbox::new();
        let mut fake = Fake::default();
        for transaction in [standing(), transaction(commands)] {
            sandbox.handle.apply(&transaction).unwrap();
            fake.apply(&transaction).unwrap();
        }
        let read = [
            fake.read(Family::V4, "t"),
            sandbox.handle.read(Family::V4, "t").unwrap(),
        ];
        let [by_fake, by_kernel] = read.map(without_generation);
        assert_eq!(by_fake, by_kernel);
    }
}

#[test]
fn the_fake_refuses_what_older_kernels_refuse() {
    let mut fake = Fake::default();
    fake.apply(&standing()).unwrap();
    let commands = vec![
        delete("verdicts", &[address(1)]),
        Command::DeleteChain("target".into()),
    ];
    let error = fake.apply(&transaction(commands.clone())).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EBUSY));
    for command in commands {
        fake.apply(&transaction(vec![command])).unwrap();
    }
}

#[test]
fn a_refusal_names_the_command_and_the_kernels_words() {
    let mut sandbox = Sandbox::new();
    let commands = vec![Command::AddTable, add_rule("none", Statement::Counter)];
    let error = sandbox.handle.apply(&transaction(commands)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "nft add rule ip t none counter: No such file or directory (ENOENT)"
    );
    sandbox.handle.apply(&standing()).unwrap();
    let many = (0..9)
        .map(|last| (vec![address(last)], Element::default()))
        .collect();
    let commands = vec![Command::AddElements("addresses".into(), many)];
    let error = sandbox.handle.apply(&transaction(commands)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "nft add element ip t addresses { 10.0.0.0, 10.0.0.1, 10.0.0.2, and 6 more } (the set is full): \
         File table overflow (ENFILE)"
    );
}

#[test]
fn a_single_address_in_an_interval_set_is_never_sent() {
    let mut marked = networks();
    marked.elements.insert(vec![address(1)], Element::default());
    let commands = vec![
        Command::AddTable,
        Command::AddSet("networks".into(), marked),
    ];
    let mut sandbox = Sandbox::new();
    let error = sandbox
        .handle
        .apply(&transaction(commands.clone()))
        .unwrap_err();
    assert!(error.to_string().contains("is not a network"), "{error}");
    assert_eq!(sandbox.handle.sent(), 0);
    let error = Fake::default().apply(&transaction(commands)).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EINVAL));
}
