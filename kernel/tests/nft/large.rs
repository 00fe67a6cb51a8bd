//! As many elements as a large cluster needs.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use kernel::{
    Family,
    nft::{
        Command, Data, DataType, Element, Fake, Key, Set, SetData, Table, Transaction, Value, diff,
        elements_delta,
    },
};

use crate::{convergence::without_generation, sandbox::Sandbox};

const ELEMENTS: u32 = 100_000;

fn key(index: u32) -> Key {
    let address = IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + index / 4));
    vec![
        Value::Address(address),
        Value::Protocol(6),
        Value::Port(80),
        Value::Number(index % 4),
    ]
}

fn element(port: u16) -> Element {
    let address = IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3));
    Element {
        data: Some(Data::Value(vec![
            Value::Address(address),
            Value::Port(port),
        ])),
        comment: Some("a-namespace/a-service-of-ordinary-length:http".into()),
    }
}

fn table() -> Table {
    use DataType::{InetProto, InetService, Ipv4Addr, Number};
    let endpoints = Set {
        key: vec![Ipv4Addr, InetProto, InetService, Number],
        data: Some(SetData::Value(vec![Ipv4Addr, InetService])),
        size: 1 << 17,
        interval: false,
        dynamic: false,
        comment: None,
        elements: (0..ELEMENTS)
            .map(|index| (key(index), element(8080)))
            .collect(),
    };
    Table {
        family: Family::V4,
        name: "tweed-test".into(),
        chains: BTreeMap::new(),
        sets: BTreeMap::from([("endpoints".to_owned(), endpoints)]),
    }
}

#[test]
fn a_map_of_100_000_elements_is_made_read_and_changed_by_one_element() {
    let (mut sandbox, mut fake, table) = (Sandbox::new(), Fake::default(), table());
    for transaction in diff(None, &table) {
        sandbox.handle.apply(&transaction).unwrap();
        fake.apply(&transaction).unwrap();
    }
    let read = sandbox.read(&table);
    assert_eq!(diff(read.as_ref(), &table), vec![]);
    assert!(without_generation(read) == without_generation(fake.read(table.family, &table.name)));

    let sent = sandbox.handle.sent();
    let have = BTreeMap::from([(key(7), element(8080))]);
    let want = BTreeMap::from([(key(7), element(9090))]);
    let commands: Vec<Command> = elements_delta("endpoints", &have, &want);
    let change = Transaction {
        family: table.family.into(),
        table: table.name.clone(),
        commands,
    };
    sandbox.handle.apply(&change).unwrap();
    assert_eq!(sandbox.handle.sent() - sent, 2);
    assert_eq!(diff(sandbox.read(&table).as_ref(), &table).len(), 1);
}
