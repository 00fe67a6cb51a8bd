//! The layout that the service proxy uses.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use kernel::{
    Family,
    nft::{
        BaseChain, Chain, ChainKind, Data, DataType, Element, Field, Hook, Key, Match, ObservedSet,
        Operator, Rule, Set, SetData, Statement, Table, Value, Verdict, diff, lower,
    },
};

use crate::sandbox::Sandbox;

const MARK: u32 = 0x4000;
const SERVICE: [Field; 3] = [
    Field::DestinationAddress,
    Field::Protocol,
    Field::DestinationPort,
];

fn address(family: Family, host: u8) -> Value {
    Value::Address(match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(10, 0, 0, host)),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(host))),
    })
}

fn address_type(family: Family) -> DataType {
    match family {
        Family::V4 => DataType::Ipv4Addr,
        Family::V6 => DataType::Ipv6Addr,
    }
}

fn base(kind: ChainKind, hook: Hook, priority: i32) -> Option<BaseChain> {
    Some(BaseChain::accepting(kind, hook, priority))
}

fn matching(field: Field, operator: Operator) -> Statement {
    Statement::Match(Match { field, operator })
}

fn chain(base: Option<BaseChain>, rules: Vec<Vec<Statement>>) -> Chain {
    let rules = rules
        .into_iter()
        .map(|statements| Rule {
            statements,
            comment: None,
        })
        .collect();
    Chain { base, rules }
}

fn vmap(map: &str) -> Statement {
    Statement::VerdictMap {
        fields: SERVICE.to_vec(),
        map: map.into(),
    }
}

fn jump(chain: &str) -> Statement {
    Statement::Verdict(Verdict::Jump(chain.into()))
}

fn chains() -> BTreeMap<String, Chain> {
    let new = || matching(Field::CtState, Operator::HasAny(Field::CT_NEW));
    let balance = {
        let mut fields = SERVICE.to_vec();
        fields.push(Field::Random { modulus: 3 });
        Statement::DnatMap {
            fields,
            map: "endpoints".into(),
        }
    };
    let hairpin = Statement::InSet {
        fields: vec![Field::SourceAddress, Field::DestinationAddress],
        negated: false,
        set: "hairpin".into(),
    };
    let masquerade = || Statement::Masquerade { fully_random: true };
    let marked = matching(Field::Mark, Operator::HasAny(MARK));
    let clear = Statement::SetMark {
        mask: MARK,
        bits: 0,
    };
    let translated = matching(Field::CtStatus, Operator::HasAny(Field::CT_DNAT));
    let mut chains = BTreeMap::from([
        ("balance-3", chain(None, vec![vec![balance]])),
        ("reject-service", chain(None, vec![vec![Statement::Reject]])),
        ("services", chain(None, vec![vec![vmap("services")]])),
        (
            "nat-prerouting",
            chain(
                base(ChainKind::Nat, Hook::Prerouting, -100),
                vec![vec![jump("services")]],
            ),
        ),
        (
            "nat-output",
            chain(
                base(ChainKind::Nat, Hook::Output, -100),
                vec![vec![jump("services")]],
            ),
        ),
        (
            "nat-postrouting",
            chain(
                base(ChainKind::Nat, Hook::Postrouting, 100),
                vec![
                    vec![marked, clear, masquerade()],
                    vec![translated, hairpin, masquerade()],
                ],
            ),
        ),
        (
            "filter-forward",
            chain(
                base(ChainKind::Filter, Hook::Forward, 0),
                vec![vec![new(), vmap("no-endpoints")]],
            ),
        ),
        (
            "filter-output",
            chain(
                base(ChainKind::Filter, Hook::Output, 0),
                vec![vec![new(), vmap("no-endpoints")]],
            ),
        ),
    ]);
    if let Some(rule) = chains
        .get_mut("filter-forward")
        .and_then(|chain| chain.rules.first_mut())
    {
        rule.comment = Some("services without endpoints".into());
    }
    chains
        .into_iter()
        .map(|(name, chain)| (name.to_owned(), chain))
        .collect()
}

fn set(key: &[DataType], data: Option<SetData>, elements: BTreeMap<Key, Element>) -> Set {
    Set {
        key: key.to_vec(),
        data,
        size: 1 << 16,
        interval: false,
        dynamic: false,
        comment: None,
        elements,
    }
}

fn service(family: Family, host: u8) -> Key {
    vec![address(family, host), Value::Protocol(6), Value::Port(80)]
}

fn goto(chain: &str) -> Element {
    Element {
        data: Some(Data::Verdict(Verdict::Goto(chain.into()))),
        comment: Some(format!("default/{chain}:http")),
    }
}

fn sets(family: Family) -> BTreeMap<String, Set> {
    use DataType::{InetProto, InetService, Number};
    let ip = address_type(family);
    let service_key = [ip, InetProto, InetService];
    let endpoints = (0..3).map(|slot| {
        let mut key = service(family, 1);
        key.push(Value::Number(slot));
        let data = Data::Value(vec![address(family, 100 + slot as u8), Value::Port(8080)]);
        (
            key,
            Element {
                data: Some(data),
                comment: None,
            },
        )
    });
    let hairpin = (100..103).map(|host| (vec![address(family, host); 2], Element::default()));
    let services = BTreeMap::from([(service(family, 1), goto("balance-3"))]);
    let no_endpoints = BTreeMap::from([(service(family, 2), goto("reject-service"))]);
    let mut sets = BTreeMap::from([
        (
            "services".into(),
            set(&service_key, Some(SetData::Verdict), services),
        ),
        (
            "no-endpoints".into(),
            set(&service_key, Some(SetData::Verdict), no_endpoints),
        ),
        (
            "endpoints".into(),
            set(
                &[ip, InetProto, InetService, Number],
                Some(SetData::Value(vec![ip, InetService])),
                endpoints.collect(),
            ),
        ),
        ("hairpin".into(), set(&[ip, ip], None, hairpin.collect())),
    ]);
    let services: &mut Set = sets.get_mut("services").unwrap();
    services.comment = Some("service address to balancer".into());
    sets
}

/// The table of one family.
pub fn table(family: Family) -> Table {
    Table {
        family,
        name: "tweed-proxy".into(),
        chains: chains(),
        sets: sets(family),
    }
}

#[test]
fn applies_lists_and_reads_back() {
    for family in Family::ALL {
        let mut sandbox = Sandbox::new();
        let table = table(family);
        let [transaction] = <[_; 1]>::try_from(diff(None, &table)).unwrap();
        sandbox.handle.apply(&transaction).unwrap();
        let read = sandbox.read(&table).unwrap();
        assert_eq!(read.sets.len(), table.sets.len());
        for (name, set) in &table.sets {
            assert_eq!(read.sets.get(name), Some(&ObservedSet::Known(set.clone())));
        }
        assert_eq!(read.chains.len(), table.chains.len());
        for (name, chain) in &table.chains {
            let observed = &read.chains[name];
            assert_eq!(observed.base, chain.base);
            for (rule, observed) in chain.rules.iter().zip(&observed.rules) {
                assert_eq!(Ok(&observed.expressions), lower(rule, family).as_ref());
                assert_eq!(observed.comment, rule.comment);
            }
        }
        let other = Sandbox::new();
        other.nft(&["-f", "-"], &transaction.to_string()).unwrap();
        assert_eq!(sandbox.list(), other.list());
    }
}
