//! What stands is brought back to what is wanted, whoever changed it.

use kernel::{
    Family,
    nft::{
        self, Chain, Command, Data, DataType, Element, Handle, Set, Table, Transaction, Value, diff,
    },
};
use nix::errno::Errno;

use crate::{
    convergence::{observed, without_generation},
    layout,
    sandbox::Sandbox,
};

/// What others can do to the table of the layout.
const MEDDLING: [&str; 16] = [
    "delete table ip tweed-proxy",
    "flush table ip tweed-proxy",
    "flush chain ip tweed-proxy nat-prerouting",
    "add rule ip tweed-proxy nat-prerouting counter",
    "insert rule ip tweed-proxy services drop",
    "insert rule ip tweed-proxy services limit rate 1/second accept",
    "add rule ip tweed-proxy nat-postrouting snat to 1.2.3.4",
    "add chain ip tweed-proxy filter-forward { type filter hook forward priority 0; policy drop; }",
    "add chain ip tweed-proxy extra { type filter hook input priority 5; policy drop; }",
    "add chain ip tweed-proxy extra; add rule ip tweed-proxy services jump extra",
    "add table ip tweed-proxy { flags dormant; }",
    "add set ip tweed-proxy extra { type ether_addr; flags timeout; }",
    "delete element ip tweed-proxy hairpin { 10.0.0.100 . 10.0.0.100 }",
    "add element ip tweed-proxy hairpin { 10.0.0.9 . 10.0.0.9 }",
    "add element ip tweed-proxy services { 10.9.9.9 . 17 . 53 : drop }",
    "delete element ip tweed-proxy endpoints { 10.0.0.1 . tcp . 80 . 1 }; \
     add element ip tweed-proxy endpoints { 10.0.0.1 . tcp . 80 . 1 : 6.6.6.6 . 66 }",
];

#[test]
fn whatever_others_change_is_put_right_and_then_nothing_is_sent() {
    let table = layout::table(Family::V4);
    for meddling in MEDDLING {
        let mut sandbox = Sandbox::new();
        sandbox.handle.reconcile(&table).unwrap();
        sandbox.nft(&["-f", "-"], meddling).unwrap();
        assert_ne!(
            without_generation(sandbox.read(&table)),
            observed(&table),
            "{meddling}"
        );

        sandbox.handle.reconcile(&table).unwrap();
        assert_eq!(
            without_generation(sandbox.read(&table)),
            observed(&table),
            "{meddling}"
        );
        let sent = sandbox.handle.sent();
        sandbox.handle.reconcile(&table).unwrap();
        assert_eq!(sandbox.handle.sent(), sent, "{meddling}");
    }
}

#[test]
fn a_set_of_another_shape_is_replaced_with_the_table() {
    for shape in [
        "ipv4_addr . ipv4_addr; size 7;",
        "ipv4_addr . ipv4_addr; timeout 1h;",
        "ether_addr;",
    ] {
        let mut sandbox = Sandbox::new();
        let text =
            format!("add table ip tweed-proxy; add set ip tweed-proxy hairpin {{ type {shape} }}");
        sandbox.nft(&["-f", "-"], &text).unwrap();
        let table = layout::table(Family::V4);
        sandbox.handle.reconcile(&table).unwrap();
        assert_eq!(
            without_generation(sandbox.read(&table)),
            observed(&table),
            "{shape}"
        );
    }
}

#[test]
fn other_tables_are_left_alone() {
    let mut sandbox = Sandbox::new();
    let others = "add table ip6 tweed-proxy; add chain ip6 tweed-proxy services; \
                  add table ip other; add set ip other hairpin { type ether_addr; }; \
                  add chain ip other services; add rule ip other services drop";
    sandbox.nft(&["-f", "-"], others).unwrap();
    let before = sandbox.list();
    let table = layout::table(Family::V4);
    sandbox.handle.reconcile(&table).unwrap();
    assert_eq!(without_generation(sandbox.read(&table)), observed(&table));
    assert!(
        sandbox
            .handle
            .delete_table_if_present(Family::V4, &table.name)
            .unwrap()
    );
    assert!(
        !sandbox
            .handle
            .delete_table_if_present(Family::V4, &table.name)
            .unwrap()
    );
    assert_eq!(sandbox.list(), before);
    assert_eq!(sandbox.read(&table), None);
}

#[test]
fn a_transaction_for_an_older_generation_is_refused() {
    let mut sandbox = Sandbox::new();
    let table = layout::table(Family::V4);
    sandbox.handle.reconcile(&table).unwrap();
    let read = sandbox.read(&table).unwrap();
    sandbox.nft(&["-f", "-"], "add table ip other").unwrap();

    let change = Transaction {
        family: table.family.into(),
        table: table.name.clone(),
        commands: vec![Command::AddChain("new".into(), Chain::default())],
    };
    let error = sandbox
        .handle
        .apply_at(read.generation, &change)
        .unwrap_err();
    assert!(error.is_stale(), "{error}");
    assert_eq!(diff(sandbox.read(&table).as_ref(), &table), vec![]);

    let generation = sandbox.read(&table).unwrap().generation;
    sandbox.handle.apply_at(generation, &change).unwrap();
    assert_eq!(diff(sandbox.read(&table).as_ref(), &table).len(), 1);
}

#[test]
fn a_table_is_read_as_it_was_at_one_moment() {
    let mut sandbox = Sandbox::new();
    let tables = [1u16, 2].map(|port| {
        let mut table = layout::table(Family::V4);
        for element in table
            .sets
            .get_mut("endpoints")
            .unwrap()
            .elements
            .values_mut()
        {
            if let Some(Data::Value(values)) = &mut element.data {
                values[1] = Value::Port(port);
            }
        }
        table
            .chains
            .insert(format!("only-{port}"), Chain::default());
        table
    });
    sandbox.handle.reconcile(&tables[0]).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let mut writer = Handle::open_in(&sandbox.namespace).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for table in tables.iter().cycle().take(100) {
                rebuild(&mut writer, table);
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            // Where the writer leaves no time to read, the error says so.
            if let Ok(read) = sandbox.handle.read(Family::V4, &tables[0].name) {
                assert!(
                    tables
                        .iter()
                        .any(|table| diff(read.as_ref(), table).is_empty())
                );
            }
        }
    });
}

/// Replaces a table as a whole, in one transaction.
fn rebuild(handle: &mut Handle, table: &Table) {
    for mut transaction in diff(None, table) {
        transaction.commands.insert(0, Command::DeleteTable);
        handle.apply(&transaction).unwrap();
    }
}

#[test]
fn a_batch_that_does_not_fit_the_send_buffer_says_so() {
    let mut sandbox = Sandbox::new();
    let element = Element {
        data: None,
        comment: Some("x".repeat(128)),
    };
    let elements = (0..230_000)
        .map(|mark| (vec![Value::Mark(mark)], element.clone()))
        .collect();
    let set = Set {
        key: vec![DataType::Mark],
        data: None,
        size: 0,
        interval: false,
        dynamic: false,
        comment: None,
        elements,
    };
    let transaction = Transaction {
        family: Family::V6.into(),
        table: "large".into(),
        commands: vec![Command::AddTable, Command::AddSet("marks".into(), set)],
    };
    let error = sandbox.handle.apply(&transaction).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EMSGSIZE));
    assert!(
        error
            .to_string()
            .contains("bytes do not fit the socket's buffers"),
        "{error}"
    );
}

/// Whoever changes a table: the change is announced, and raises the generation by one.
#[test]
fn changes_are_announced_and_counted() {
    let mut sandbox = Sandbox::new();
    let mut monitor = sandbox.namespace.run(nft::Monitor::open).unwrap().unwrap();
    let before = sandbox.handle.generation().unwrap();
    for (family, command, changed) in [
        (Family::V4, "add table ip watched", true),
        (Family::V4, "add chain ip watched c", true),
        (Family::V6, "add table ip6 watched", true),
        (Family::V4, "add table ip other", false),
        (Family::V4, "add table inet watched", false),
        (Family::V4, "delete table ip watched", true),
    ] {
        let generation = sandbox.handle.generation().unwrap();
        sandbox.nft(&[command], "").unwrap();
        assert_eq!(
            sandbox.handle.generation().unwrap(),
            generation + 1,
            "{command}"
        );
        let families = monitor.changed("watched").unwrap();
        let expected = changed.then_some(family).into_iter().collect();
        assert_eq!(families, expected, "{command}");
    }
    assert_eq!(sandbox.handle.generation().unwrap(), before + 6);
    assert!(monitor.changed("watched").unwrap().is_empty());
}

/// One's own changes are no news.
#[test]
fn changes_by_way_of_a_handle_are_left_out() {
    let mut sandbox = Sandbox::new();
    let open = || nft::Monitor::open_besides(&sandbox.handle);
    let mut monitor = sandbox.namespace.run(open).unwrap().unwrap();
    let transaction = Transaction {
        family: Family::V4.into(),
        table: "watched".into(),
        commands: vec![
            Command::AddTable,
            Command::AddChain("c".into(), Chain::default()),
        ],
    };
    sandbox.handle.apply(&transaction).unwrap();
    assert!(monitor.changed("watched").unwrap().is_empty());
    sandbox.nft(&["delete table ip watched"], "").unwrap();
    assert_eq!(monitor.changed("watched").unwrap(), [Family::V4].into());
}
