//! The tables of iptables in nf_tables, written without its programs: the programs are to see no difference.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod namespace;

use kernel::{
    Family,
    iptables::{Backend, Error, Iptables, NativeTables, Table},
    nft::{Expr, Handle, ObservedRule},
};
use namespace::TestNamespace;

const TABLES: [&str; 3] = ["mangle", "nat", "filter"];

/// What the golden texts of the service proxy don't have.
const MORE: &str = "*nat\n:CHAIN-A - [0:0]\n:CHAIN-B - [0:0]\n:CHAIN-C - [0:0]\n\
    -A CHAIN-A -m comment --comment plain -m sctp -p sctp -d 10.0.0.0/8 --dport 80 -j CHAIN-B\n\
    -A CHAIN-A -d 10.0.0.0/13 ! -s 10.0.0.0/24 -j CHAIN-B\n\
    -A CHAIN-A ! -i br0 -j CHAIN-B\n\
    -A CHAIN-A -i br0 -m comment --comment \"it's a \\\"b\\\"\" -j CHAIN-B\n\
    -A CHAIN-A -m addrtype --dst-type LOCAL ! -d 127.0.0.0/8 -j CHAIN-B\n\
    -A CHAIN-A -m udp -p udp --dport 30000:30063 -j CHAIN-B\n\
    -A CHAIN-A -m sctp -p sctp --dport 30000:30063 -j CHAIN-B\n\
    -A CHAIN-A -m udp -p udp -d 10.0.0.0/15 --dport 53 -m addrtype --src-type LOCAL -j CHAIN-B\n\
    -A CHAIN-A -m recent --name of-chain-a --rcheck --seconds 60 -j CHAIN-B\n\
    -A CHAIN-A -m mark --mark 0x5 -j CHAIN-B\n\
    -A CHAIN-A -m tcp -p tcp -d 10.0.0.9 --dport 80 -m comment --comment \"behind all: kept\" -j CHAIN-B\n\
    -A CHAIN-A -m comment --comment \"behind what is no match of its own\" -s 10.0.0.9 -j CHAIN-B\n\
    -A CHAIN-A -m statistic --mode random --probability 0.25 -m comment --comment plain -j RETURN\n\
    -A CHAIN-C -j MASQUERADE\n\
    -A CHAIN-B -m sctp -p sctp -j DNAT --to-destination 10.1.2.3:80\n\
    -I PREROUTING -j CHAIN-A\n\
    -I POSTROUTING -j CHAIN-C\n\
    -I PREROUTING -s 10.0.0.7 -j CHAIN-A\n\
    COMMIT\n";

fn golden() -> [(Family, &'static str); 3] {
    [
        (
            Family::V4,
            include_str!("../../service-proxy/tests/iptables/tree.rules"),
        ),
        (
            Family::V6,
            include_str!("../../service-proxy/tests/iptables/ip6.rules"),
        ),
        (Family::V4, MORE),
    ]
}

/// All that the programs print, without the comments around.
fn saved(node: &TestNamespace, family: Family) -> String {
    let program = match family {
        Family::V4 => "iptables-nft-save",
        Family::V6 => "ip6tables-nft-save",
    };
    let text = node.run(program, &[], "");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.collect::<Vec<_>>().join("\n")
}

/// What people look at.
fn listed(node: &TestNamespace, family: Family) -> String {
    let program = match family {
        Family::V4 => "iptables-nft",
        Family::V6 => "ip6tables-nft",
    };
    TABLES
        .map(|table| node.run(program, &["-t", table, "-nvL"], ""))
        .concat()
}

/// The instructions of all rules, by table and chain, but for comments: they are kept in another place.
fn instructions(node: &TestNamespace, family: Family) -> Vec<(String, ObservedRule)> {
    let mut handle = Handle::open_in(&node.namespace).unwrap();
    let read = TABLES.into_iter().flat_map(|table| {
        handle
            .rules(family, table, None, |chain, rule| {
                let is_comment =
                    |it: &Expr| matches!(it, Expr::Extension { name, .. } if name == "comment");
                let expressions = rule.expressions.into_iter();
                let rule = ObservedRule {
                    handle: 0,
                    expressions: expressions.filter(|it| !is_comment(it)).collect(),
                    comment: None,
                };
                (format!("{table} {chain}"), rule)
            })
            .unwrap()
    });
    let mut rules: Vec<_> = read.collect();
    // The order of chains is that in which they were made.
    rules.sort_by(|(a, _), (b, _)| a.cmp(b));
    rules
}

fn native<T>(
    node: &TestNamespace,
    family: Family,
    work: impl FnOnce(&mut NativeTables<'_>) -> T + Send,
) -> T
where
    T: Send,
{
    let run = || {
        let programs = Iptables::find(family, Backend::Nft).unwrap();
        let mut handle = Handle::open().unwrap();
        work(&mut NativeTables::new(&mut handle, &programs))
    };
    node.namespace.run(run).unwrap()
}

#[test]
fn the_programs_see_no_difference() {
    for (family, text) in golden() {
        let [ours, theirs] = ["ours", "theirs"].map(TestNamespace::new);
        native(&ours, family, |tables| tables.restore(text)).unwrap();
        let restore = || Iptables::find(family, Backend::Nft).unwrap().restore(text);
        theirs.namespace.run(restore).unwrap().unwrap();
        let [ours_read, theirs_read] = [&ours, &theirs].map(|it| instructions(it, family));
        for (ours, theirs) in ours_read.iter().zip(&theirs_read) {
            assert_eq!(ours, theirs);
        }
        assert_eq!(ours_read.len(), theirs_read.len());
        assert_eq!(saved(&ours, family), saved(&theirs, family));
        assert_eq!(listed(&ours, family), listed(&theirs, family));
    }
}

#[test]
fn rules_are_read_as_the_programs_print_them() {
    for (family, text) in golden() {
        let node = TestNamespace::new("read");
        let read = native(&node, family, |tables| {
            tables.restore(text).unwrap();
            tables.save_tables(&TABLES).unwrap()
        });
        let programs = || {
            let programs = Iptables::find(family, Backend::Nft).unwrap();
            programs.save_tables(&TABLES).unwrap()
        };
        let printed = node.namespace.run(programs).unwrap();
        let sorted = |table: &Table| {
            let mut chains = table.chains.clone();
            chains.sort_by(|a, b| a.name.cmp(&b.name));
            chains
        };
        assert_eq!(read.len(), printed.len());
        for (name, table) in &read {
            assert_eq!(sorted(table), sorted(&printed[name]), "{name}");
        }
    }
}

#[test]
fn what_is_of_others_stays_and_can_be_deleted() {
    let node = TestNamespace::new("others");
    let foreign = "*nat\n:THEIRS - [0:0]\n-A THEIRS -m length --length 3 -j RETURN\n\
                   -I PREROUTING -m length --length 3:5 -j THEIRS\nCOMMIT\n";
    native(&node, Family::V4, |tables| {
        // Only the program knows such a match.
        tables.restore(foreign).unwrap();
        tables
            .restore("*nat\n:CHAIN-A - [0:0]\n-I PREROUTING -j CHAIN-A\nCOMMIT\n")
            .unwrap();
        let nat = &tables.save_tables(&["nat"]).unwrap()["nat"];
        let rules = &nat.chain("PREROUTING").unwrap().rules;
        assert_eq!(rules[0], "-j CHAIN-A");
        assert!(rules[1].ends_with("-j THEIRS"), "{rules:?}");
        let deleting = format!("*nat\n-D PREROUTING {}\nCOMMIT\n", rules[1]);
        tables.restore(&deleting).unwrap();
        let again = tables.restore(&deleting).unwrap_err();
        assert!(matches!(again, Error::Refused { .. }), "{again}");
        tables
            .restore("*nat\n:CHAIN-A - [0:0]\n-D PREROUTING -j CHAIN-A\n-X CHAIN-A\nCOMMIT\n")
            .unwrap();
        let nat = &tables.save_tables(&["nat"]).unwrap()["nat"];
        assert_eq!(nat.chain("PREROUTING").unwrap().rules, [""; 0]);
        assert_eq!(nat.chain("CHAIN-A"), None);
        assert_eq!(nat.chain("THEIRS").unwrap().rules.len(), 1);
        assert!(tables.has_chain("nat", "THEIRS").unwrap());
        assert!(!tables.has_chain("raw", "THEIRS").unwrap());
    });
}

#[test]
fn what_is_refused_is_named_and_nothing_is_changed() {
    let node = TestNamespace::new("refused");
    native(&node, Family::V6, |tables| {
        let text = "*nat\n:CHAIN-A - [0:0]\n-A CHAIN-A -d fd00::1 -j NOWHERE-1\nCOMMIT\n";
        let error = tables.restore(text).unwrap_err().to_string();
        assert!(error.contains("-d fd00::1 -j NOWHERE-1"), "{error}");
        assert!(tables.save_tables(&TABLES).unwrap().is_empty());
    });
}
