//! How nft(8) lists what we sent: every statement and every type, in both families.

use std::collections::BTreeMap;

use kernel::{
    Family,
    nft::{
        BaseChain, Chain, ChainKind, Data, DataType, Element, Field, Hook, Match, Operator, Policy,
        Rule, Set, SetData, Statement, Table, Value, Verdict, diff,
    },
};

use crate::sandbox::Sandbox;

fn is(field: Field, value: Value) -> Statement {
    Statement::Match(Match {
        field,
        operator: Operator::Is(value),
    })
}

fn compare(field: Field, operator: Operator) -> Statement {
    Statement::Match(Match { field, operator })
}

fn address(family: Family) -> Value {
    Value::Address(match family {
        Family::V4 => "10.0.0.1".parse().unwrap(),
        Family::V6 => "fd00::1".parse().unwrap(),
    })
}

fn network(family: Family, prefix: u8) -> Value {
    let base = match family {
        Family::V4 => "10.128.0.0",
        Family::V6 => "fd80::",
    };
    Value::Network(format!("{base}/{prefix}").parse().unwrap())
}

/// Statements and how nft lists them; `IP` stands for the family, `ADDRESS` and `NET` for its values.
fn statements(family: Family) -> Vec<(Statement, &'static str)> {
    use Field::{
        CtState, CtStatus, DestinationAddress, DestinationPort, DestinationType, InputInterface,
        Mark, OutputInterface, Protocol, Random, SourceAddress, SourcePort, SourceType,
    };
    let name = || Value::IfName("eth0".parse().unwrap());
    vec![
        (is(SourceAddress, address(family)), "IP saddr ADDRESS"),
        (
            compare(DestinationAddress, Operator::IsNot(address(family))),
            "IP daddr != ADDRESS",
        ),
        (
            is(DestinationAddress, network(family, 16)),
            "IP daddr NET/16",
        ),
        (
            compare(SourceAddress, Operator::IsNot(network(family, 12))),
            "IP saddr != NET/12",
        ),
        (is(Protocol, Value::Protocol(6)), "meta l4proto tcp"),
        (is(SourcePort, Value::Port(53)), "th sport 53"),
        (is(DestinationPort, Value::Port(80)), "th dport 80"),
        (is(Mark, Value::Mark(0x4000)), "meta mark 0x00004000"),
        (
            compare(Mark, Operator::HasAny(0x4000)),
            "meta mark & 0x00004000 != 0x00000000",
        ),
        (
            compare(Mark, Operator::HasNone(0x4000)),
            "meta mark & 0x00004000 == 0x00000000",
        ),
        (is(InputInterface, name()), "iifname \"eth0\""),
        (
            compare(OutputInterface, Operator::IsNot(name())),
            "oifname != \"eth0\"",
        ),
        (
            compare(CtState, Operator::HasAny(Field::CT_NEW | Field::CT_RELATED)),
            "ct state related,new",
        ),
        (
            compare(CtState, Operator::HasNone(Field::CT_INVALID)),
            "ct state ! invalid",
        ),
        (
            compare(CtStatus, Operator::HasAny(Field::CT_DNAT)),
            "ct status dnat",
        ),
        (
            compare(SourceType, Operator::IsLocal),
            "fib saddr type local",
        ),
        (
            compare(DestinationType, Operator::IsNotLocal),
            "fib daddr type != local",
        ),
        (
            is(Random { modulus: 3 }, Value::Number(2)),
            "numgen random mod 3 2",
        ),
        (
            in_set(&[SourceAddress], false, "addresses"),
            "IP saddr @addresses",
        ),
        (
            in_set(&[SourceAddress], true, "addresses"),
            "IP saddr != @addresses",
        ),
        (
            in_set(&[DestinationAddress], false, "networks"),
            "IP daddr @networks",
        ),
        (
            in_set(&[Mark, Protocol], false, "pairs"),
            "meta mark . meta l4proto @pairs",
        ),
        (
            Statement::SetMark {
                mask: 0x4000,
                bits: 0x4000,
            },
            "meta mark set meta mark | 0x00004000",
        ),
        (
            Statement::SetMark {
                mask: 0x4000,
                bits: 0,
            },
            "meta mark set meta mark & 0xffffbfff",
        ),
        (Statement::Counter, "counter packets 0 bytes 0"),
        (Statement::Reject, "reject"),
        (Statement::Verdict(Verdict::Accept), "accept"),
        (Statement::Verdict(Verdict::Drop), "drop"),
        (Statement::Verdict(Verdict::Return), "return"),
        (
            Statement::Verdict(Verdict::Jump("other".into())),
            "jump other",
        ),
        (
            Statement::Verdict(Verdict::Goto("other".into())),
            "goto other",
        ),
        (
            vmap(&[InputInterface, DestinationPort], "verdicts"),
            "iifname . th dport vmap @verdicts",
        ),
    ]
}

fn in_set(fields: &[Field], negated: bool, set: &str) -> Statement {
    Statement::InSet {
        fields: fields.to_vec(),
        negated,
        set: set.into(),
    }
}

fn vmap(fields: &[Field], map: &str) -> Statement {
    Statement::VerdictMap {
        fields: fields.to_vec(),
        map: map.into(),
    }
}

fn nat(family: Family) -> Vec<(Statement, &'static str)> {
    let fields = vec![Field::DestinationAddress, Field::Random { modulus: 2 }];
    let translate = Statement::DnatMap {
        fields,
        map: "endpoints".into(),
    };
    let text = match family {
        Family::V4 => "dnat ip to ip daddr . numgen random mod 2 map @endpoints",
        Family::V6 => "dnat ip6 to ip6 daddr . numgen random mod 2 map @endpoints",
    };
    vec![(translate, text)]
}

fn masquerading() -> Vec<(Statement, &'static str)> {
    vec![
        (
            Statement::Masquerade {
                fully_random: false,
            },
            "masquerade",
        ),
        (
            Statement::Masquerade { fully_random: true },
            "masquerade fully-random",
        ),
    ]
}

fn chain(statements: Vec<(Statement, &str)>, base: Option<(ChainKind, Hook, i32)>) -> Chain {
    let rule = |(statement, text): (Statement, &str)| Rule {
        comment: Some(text.replace('"', "'")),
        statements: vec![statement],
    };
    let base = base.map(|(kind, hook, priority)| BaseChain {
        kind,
        hook,
        priority,
        policy: Policy::Drop,
    });
    Chain {
        base,
        rules: statements.into_iter().map(rule).collect(),
    }
}

fn set(
    key: &[DataType],
    data: Option<SetData>,
    comment: Option<&str>,
    elements: Vec<(Vec<Value>, Option<Data>)>,
) -> Set {
    let elements = elements.into_iter().map(|(key, data)| {
        (
            key,
            Element {
                data,
                comment: comment.map(str::to_owned),
            },
        )
    });
    Set {
        key: key.to_vec(),
        data,
        size: 100,
        interval: false,
        dynamic: false,
        comment: comment.map(str::to_owned),
        elements: elements.collect(),
    }
}

fn sets(family: Family) -> BTreeMap<String, Set> {
    use DataType::{IfName, InetProto, InetService, Mark, Number};
    let ip = match family {
        Family::V4 => DataType::Ipv4Addr,
        Family::V6 => DataType::Ipv6Addr,
    };
    let drop = Some(Data::Verdict(Verdict::Drop));
    let endpoint = Some(Data::Value(vec![address(family), Value::Port(8080)]));
    let name = Value::IfName("eth0".parse().unwrap());
    let networks = set(&[ip], None, None, vec![(vec![network(family, 10)], None)]);
    BTreeMap::from([
        (
            "addresses".into(),
            set(
                &[ip],
                None,
                Some("why"),
                vec![(vec![address(family)], None)],
            ),
        ),
        (
            "networks".into(),
            Set {
                interval: true,
                size: 0,
                ..networks
            },
        ),
        (
            "pairs".into(),
            set(
                &[Mark, InetProto],
                None,
                None,
                vec![(vec![Value::Mark(1), Value::Protocol(17)], None)],
            ),
        ),
        (
            "verdicts".into(),
            set(
                &[IfName, InetService],
                Some(SetData::Verdict),
                None,
                vec![(vec![name, Value::Port(80)], drop)],
            ),
        ),
        (
            "endpoints".into(),
            set(
                &[ip, Number],
                Some(SetData::Value(vec![ip, InetService])),
                None,
                vec![(vec![address(family), Value::Number(1)], endpoint)],
            ),
        ),
    ])
}

/// What nft lists of the sets, with `TYPE` for the type of an address.
const SETS: &str = r#"	set addresses {
		type TYPE
		size 100
		comment "why"
		elements = { ADDRESS comment "why" }
	}

	map endpoints {
		typeof IP daddr . numgen random mod 4294967295 : IP daddr . th dport
		size 100
		elements = { ADDRESS . 1 : ADDRESS . 8080 }
	}

	set networks {
		type TYPE
		flags interval
		elements = { NET/10 }
	}

	set pairs {
		type mark . inet_proto
		size 100
		elements = { 0x00000001 . udp }
	}

	map verdicts {
		type ifname . inet_service : verdict
		size 100
		elements = { "eth0" . 80 : drop }
	}
"#;

fn in_words(family: Family, text: &str) -> String {
    let (ip, address, net, kind) = match family {
        Family::V4 => ("ip", "10.0.0.1", "10.128.0.0", "ipv4_addr"),
        Family::V6 => ("ip6", "fd00::1", "fd80::", "ipv6_addr"),
    };
    text.replace("IP ", &format!("{ip} "))
        .replace("ADDRESS", address)
        .replace("NET", net)
        .replace("TYPE", kind)
}

#[test]
fn nft_lists_every_statement_and_type_as_it_would_its_own() {
    for family in Family::ALL {
        let chains = BTreeMap::from([
            ("other".to_owned(), Chain::default()),
            (
                "pass".to_owned(),
                chain(
                    statements(family),
                    Some((ChainKind::Filter, Hook::Forward, 0)),
                ),
            ),
            (
                "to".to_owned(),
                chain(nat(family), Some((ChainKind::Nat, Hook::Prerouting, -100))),
            ),
            (
                "from".to_owned(),
                chain(
                    masquerading(),
                    Some((ChainKind::Nat, Hook::Postrouting, 100)),
                ),
            ),
        ]);
        let table = Table {
            family,
            name: "tweed-test".into(),
            chains,
            sets: sets(family),
        };
        let mut sandbox = Sandbox::new();
        for transaction in diff(None, &table) {
            sandbox.handle.apply(&transaction).unwrap();
        }
        let listed = sandbox.list();
        assert!(listed.contains(&in_words(family, SETS)), "{listed}");
        assert!(
            listed.contains("type nat hook prerouting priority dstnat; policy drop;"),
            "{listed}"
        );
        for (_, text) in statements(family)
            .into_iter()
            .chain(nat(family))
            .chain(masquerading())
        {
            let line = format!(
                "\t\t{} comment \"{}\"\n",
                in_words(family, text),
                text.replace('"', "'")
            );
            assert!(listed.contains(&line), "{line}{listed}");
        }
    }
}
