//! Random tables that the kernel can take.
//!
//! Names come from a small stock and mostly mean the same, so that two tables have much in common. Chains
//! fall into groups, one for each kind of hook, and lead to later chains of their group only: there are no
//! loops, and no statement is reached from a hook where it can't be.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnetwork::IpNetwork;
use kernel::{
    Family,
    nft::{
        BaseChain, Chain, ChainKind, Data, DataType, Element, Field, Hook, Key, Match, Operator,
        Policy, Rule, Set, SetData, Statement, Table, Value, Verdict,
    },
};
use proptest::{
    collection::{btree_map, vec},
    option,
    prelude::*,
    sample::{select, subsequence},
};

/// Where a group of chains is called from, and what can be done there.
#[derive(Clone, Copy, Debug)]
struct Group {
    name: &'static str,
    kind: ChainKind,
    hooks: &'static [Hook],
}

const GROUPS: [Group; 3] = [
    Group {
        name: "to",
        kind: ChainKind::Nat,
        hooks: &[Hook::Prerouting, Hook::Output],
    },
    Group {
        name: "from",
        kind: ChainKind::Nat,
        hooks: &[Hook::Postrouting],
    },
    Group {
        name: "pass",
        kind: ChainKind::Filter,
        hooks: &[Hook::Input, Hook::Forward, Hook::Output],
    },
];
/// Regular chains of each group.
const REGULAR: usize = 3;

/// A table of either family.
pub fn table() -> impl Strategy<Value = Table> {
    select(&Family::ALL[..]).prop_flat_map(table_of)
}

/// Two tables of one family and name.
pub fn two_tables() -> impl Strategy<Value = [Table; 2]> {
    select(&Family::ALL[..]).prop_flat_map(|family| [table_of(family), table_of(family)])
}

fn table_of(family: Family) -> impl Strategy<Value = Table> {
    let chains = GROUPS.map(|group| chains_of(family, group)).to_vec();
    (chains, sets(family)).prop_map(move |(groups, sets)| {
        let chains = groups.into_iter().flatten().collect();
        complete(Table {
            family,
            name: "tweed-test".into(),
            chains,
            sets,
        })
    })
}

/// Leaves out what leads to chains and sets that are not in the table.
fn complete(mut table: Table) -> Table {
    let names: Vec<String> = table.chains.keys().cloned().collect();
    let leads_on = |verdict: &Verdict| match verdict {
        Verdict::Jump(chain) | Verdict::Goto(chain) => names.contains(chain),
        _ => true,
    };
    for chain in table.chains.values_mut() {
        for rule in &mut chain.rules {
            rule.statements.retain(|statement| match statement {
                Statement::InSet { set, .. } => table.sets.contains_key(set),
                Statement::VerdictMap { map, .. } | Statement::DnatMap { map, .. } => {
                    table.sets.contains_key(map)
                }
                Statement::Verdict(verdict) => leads_on(verdict),
                _ => true,
            });
        }
        chain.rules.retain(|rule| !rule.statements.is_empty());
    }
    for set in table.sets.values_mut() {
        set.elements.retain(|_, element| match &element.data {
            Some(Data::Verdict(verdict)) => leads_on(verdict),
            _ => true,
        });
    }
    table
}

fn regular(group: Group, index: usize) -> String {
    format!("{}-{index}", group.name)
}

fn chains_of(family: Family, group: Group) -> BoxedStrategy<BTreeMap<String, Chain>> {
    let base =
        subsequence(group.hooks.to_vec(), 0..=group.hooks.len()).prop_flat_map(move |hooks| {
            hooks
                .into_iter()
                .map(|hook| base_chain(family, group, hook))
                .collect::<Vec<_>>()
        });
    let regular =
        subsequence((0..REGULAR).collect::<Vec<_>>(), 0..=REGULAR).prop_flat_map(move |indices| {
            let chain = move |index| {
                let rules = vec(rule(family, group, index + 1), 0..3);
                rules.prop_map(move |rules| (regular(group, index), Chain { base: None, rules }))
            };
            indices.into_iter().map(chain).collect::<Vec<_>>()
        });
    (base, regular)
        .prop_map(|(base, regular)| base.into_iter().chain(regular).collect())
        .boxed()
}

fn base_chain(family: Family, group: Group, hook: Hook) -> impl Strategy<Value = (String, Chain)> {
    let priority = prop_oneof![9 => Just(10), 1 => -150..150i32];
    let policy = prop_oneof![Just(Policy::Accept), Just(Policy::Drop)];
    (priority, policy, vec(rule(family, group, 0), 0..4)).prop_map(
        move |(priority, policy, rules)| {
            let base = Some(BaseChain {
                kind: group.kind,
                hook,
                priority,
                policy,
            });
            (
                format!("{}-base-{}", group.name, hook as u8),
                Chain { base, rules },
            )
        },
    )
}

/// A rule that leads to chains of the group from `next` on only.
///
/// It compares the packet itself only once: nft makes one of two comparisons of neighbouring fields, even of
/// `!=`, for which that is wrong.
fn rule(family: Family, group: Group, next: usize) -> impl Strategy<Value = Rule> {
    let protocol = option::of(protocol().prop_map(|value| is(Field::Protocol, value)));
    let packet = option::of(packet(family));
    let others = vec(statement(family), 0..3);
    (
        protocol,
        packet,
        others,
        last(family, group, next),
        comment(),
    )
        .prop_map(|(protocol, packet, others, last, comment)| {
            let first = protocol.into_iter().chain(packet);
            Rule {
                statements: first.chain(others).chain([last]).collect(),
                comment,
            }
        })
}

fn is(field: Field, value: Value) -> Statement {
    Statement::Match(Match {
        field,
        operator: Operator::Is(value),
    })
}

/// Anything after which a rule can go on.
fn statement(family: Family) -> impl Strategy<Value = Statement> {
    prop_oneof![
        4 => comparison().prop_map(|(field, operator)| Statement::Match(Match { field, operator })),
        2 => (select(stock(family)), any::<bool>(), any::<bool>())
            .prop_filter("a map", |((_, _, data), ..)| data.is_none())
            .prop_map(|((set, key, _), negated, source)| Statement::InSet {
                fields: key.iter().map(|kind| field(*kind, source)).collect(),
                negated,
                set: set.into(),
            }),
        1 => (any::<u32>(), any::<u32>()).prop_map(|(mask, bits)| Statement::SetMark { mask, bits }),
        1 => Just(Statement::Counter),
    ]
}

/// A comparison of a field of the packet.
fn packet(family: Family) -> impl Strategy<Value = Statement> {
    let address = DataType::address(family);
    let value = prop_oneof![
        (Just(address), value(address)),
        (Just(address), network(family).prop_map(Value::Network)),
        (Just(DataType::InetService), value(DataType::InetService)),
    ];
    (value, any::<bool>(), any::<bool>()).prop_map(|((kind, value), source, negated)| {
        Statement::Match(Match {
            field: field(kind, source),
            operator: equal(value, negated),
        })
    })
}

/// A comparison of what is known about the packet.
fn comparison() -> impl Strategy<Value = (Field, Operator)> {
    let flags = select(vec![Field::CtState, Field::CtStatus, Field::Mark]);
    let kinds = select(vec![DataType::Mark, DataType::IfName]);
    prop_oneof![
        (kinds, any::<bool>(), any::<bool>()).prop_flat_map(move |(kind, source, negated)| {
            (
                Just(field(kind, source)),
                value(kind).prop_map(move |value| equal(value, negated)),
            )
        }),
        (flags, 1u32..64, any::<bool>()).prop_map(|(field, bits, any)| {
            (
                field,
                if any {
                    Operator::HasAny(bits)
                } else {
                    Operator::HasNone(bits)
                },
            )
        }),
        (1u32..5).prop_map(|number| {
            let field = Field::Random {
                modulus: number + 1,
            };
            (field, Operator::Is(Value::Number(number)))
        }),
        (any::<bool>(), any::<bool>()).prop_map(|(source, negated)| {
            let field = if source {
                Field::SourceType
            } else {
                Field::DestinationType
            };
            (
                field,
                if negated {
                    Operator::IsNotLocal
                } else {
                    Operator::IsLocal
                },
            )
        }),
    ]
}

fn equal(value: Value, negated: bool) -> Operator {
    if negated {
        Operator::IsNot(value)
    } else {
        Operator::Is(value)
    }
}

/// What can end a rule in the group.
fn last(family: Family, group: Group, next: usize) -> BoxedStrategy<Statement> {
    let verdict = verdict(group, next).prop_map(Statement::Verdict);
    let map = format!("verdicts-{}", group.name);
    let fields = vec![
        Field::DestinationAddress,
        Field::Protocol,
        Field::DestinationPort,
    ];
    let look_up = Just(Statement::VerdictMap {
        fields: fields.clone(),
        map,
    });
    // A map leads to any chain of the group, so it stands only in front of them all.
    let look_up = if next == 0 {
        look_up.boxed()
    } else {
        Just(Statement::Counter).boxed()
    };
    let own = match group.name {
        "to" => (1u32..100)
            .prop_map(move |modulus| Statement::DnatMap {
                fields: [fields.as_slice(), &[Field::Random { modulus }]].concat(),
                map: "endpoints".into(),
            })
            .boxed(),
        "from" => any::<bool>()
            .prop_map(|fully_random| Statement::Masquerade { fully_random })
            .boxed(),
        _ => Just(Statement::Reject).boxed(),
    };
    prop_oneof![verdict, look_up, own, statement(family)].boxed()
}

fn verdict(group: Group, next: usize) -> impl Strategy<Value = Verdict> {
    let chains: Vec<String> = (next..REGULAR).map(|index| regular(group, index)).collect();
    let plain = select(vec![Verdict::Accept, Verdict::Drop, Verdict::Return]);
    let leads_on = (any::<prop::sample::Index>(), any::<bool>());
    (plain, leads_on, any::<bool>()).prop_map(move |(plain, (index, jump), stay)| {
        if stay || chains.is_empty() {
            plain
        } else {
            let chain = index.get(&chains).clone();
            if jump {
                Verdict::Jump(chain)
            } else {
                Verdict::Goto(chain)
            }
        }
    })
}

/// Every set that there can be: its name, key and data.
fn stock(family: Family) -> Vec<(&'static str, Vec<DataType>, Option<SetData>)> {
    use DataType::{IfName, InetProto, InetService, Mark, Number};
    let ip = DataType::address(family);
    let service = vec![ip, InetProto, InetService];
    vec![
        ("addresses", vec![ip], None),
        ("pairs", vec![ip, ip], None),
        ("interfaces", vec![IfName], None),
        ("protocols", vec![InetProto], None),
        ("ports", vec![InetProto, InetService], None),
        ("marks", vec![Mark], None),
        ("numbers", vec![Number], None),
        (
            "mark-of-number",
            vec![Number, IfName],
            Some(SetData::Value(vec![Mark])),
        ),
        // nft 1.0.6 aborts at listing keys of five fields, two elements of which differ late.
        ("numbered", vec![Number, InetService, Mark, ip], None),
        ("four", vec![InetService, Mark, IfName, InetProto], None),
        ("networks", vec![ip], None),
        ("verdicts-network", vec![ip], Some(SetData::Verdict)),
        ("verdicts-to", service.clone(), Some(SetData::Verdict)),
        ("verdicts-from", service.clone(), Some(SetData::Verdict)),
        ("verdicts-pass", service.clone(), Some(SetData::Verdict)),
        ("mark-of", vec![ip, Mark], Some(SetData::Value(vec![Mark]))),
        (
            "mark-and-protocol-of",
            vec![IfName],
            Some(SetData::Value(vec![Mark, InetProto])),
        ),
        (
            "endpoints",
            [service, vec![Number]].concat(),
            Some(SetData::Value(vec![ip, InetService])),
        ),
    ]
}

fn sets(family: Family) -> impl Strategy<Value = BTreeMap<String, Set>> {
    let stock = stock(family);
    let all = stock.len();
    subsequence(stock, all / 2..=all).prop_flat_map(move |chosen| {
        chosen
            .into_iter()
            .map(|(name, key, data)| {
                set(family, name, key, data).prop_map(move |set| (name.to_owned(), set))
            })
            .collect::<Vec<_>>()
            .prop_map(|sets| sets.into_iter().collect())
    })
}

fn set(
    family: Family,
    name: &'static str,
    key: Vec<DataType>,
    data: Option<SetData>,
) -> BoxedStrategy<Set> {
    let interval = name.contains("network");
    let keys = if interval {
        network(family)
            .prop_map(|network| vec![Value::Network(network)])
            .boxed()
    } else {
        values(key.clone()).boxed()
    };
    let element = (element_data(name, data.clone()), comment())
        .prop_map(|(data, comment)| Element { data, comment });
    let size = if interval {
        Just(0).boxed()
    } else {
        prop_oneof![20 => Just(500), 1 => Just(0), 1 => Just(24)].boxed()
    };
    let comment = prop_oneof![20 => Just(None), 1 => Just(Some("a comment".to_owned()))];
    (btree_map(keys, element, 0..12), size, comment)
        .prop_map(move |(elements, size, comment)| Set {
            key: key.clone(),
            data: data.clone(),
            size,
            interval,
            comment,
            elements: apart(elements),
        })
        .boxed()
}

/// Leaves out networks that overlap others.
fn apart(elements: BTreeMap<Key, Element>) -> BTreeMap<Key, Element> {
    let mut kept: BTreeMap<Key, Element> = BTreeMap::new();
    for (key, element) in elements {
        let clash = |other: &Key| match (other.as_slice(), key.as_slice()) {
            ([Value::Network(a)], [Value::Network(b)]) => {
                a.contains(b.network()) || b.contains(a.network())
            }
            _ => false,
        };
        if !kept.keys().any(clash) {
            kept.insert(key, element);
        }
    }
    kept
}

fn element_data(name: &'static str, data: Option<SetData>) -> BoxedStrategy<Option<Data>> {
    match data {
        None => Just(None).boxed(),
        Some(SetData::Value(types)) => values(types)
            .prop_map(|values| Some(Data::Value(values)))
            .boxed(),
        Some(SetData::Verdict) => {
            let group = GROUPS
                .into_iter()
                .find(|group| name.ends_with(group.name))
                .unwrap_or(GROUPS[0]);
            verdict(group, 0)
                .prop_map(|verdict| Some(Data::Verdict(verdict)))
                .boxed()
        }
    }
}

fn values(types: Vec<DataType>) -> impl Strategy<Value = Vec<Value>> {
    types.into_iter().map(value).collect::<Vec<_>>()
}

fn value(kind: DataType) -> BoxedStrategy<Value> {
    match kind {
        DataType::Ipv4Addr => address(Family::V4).prop_map(Value::Address).boxed(),
        DataType::Ipv6Addr => address(Family::V6).prop_map(Value::Address).boxed(),
        DataType::InetProto => protocol().boxed(),
        DataType::InetService => select(vec![0, 1, 53, 80, 443, 8080, 65535])
            .prop_map(Value::Port)
            .boxed(),
        DataType::Mark => select(vec![0, 1, 0x4000, u32::MAX])
            .prop_map(Value::Mark)
            .boxed(),
        DataType::Number => (0u32..5).prop_map(Value::Number).boxed(),
        DataType::IfName => select(vec!["eth0", "cni0", "flannel.1", "a23456789012345", "odd*"])
            .prop_map(|name| Value::IfName(name.parse().unwrap()))
            .boxed(),
    }
}

fn protocol() -> impl Strategy<Value = Value> {
    select(vec![6, 17, 132]).prop_map(Value::Protocol)
}

/// Few addresses near each other and the ends of the range.
fn address(family: Family) -> impl Strategy<Value = IpAddr> {
    (
        select(vec![0u8, 10, 255]),
        select(vec![0u8, 1, 2, 128, 255]),
    )
        .prop_map(move |(first, last)| match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::new(first, last, 0, last)),
            Family::V6 => {
                let mut octets = [0; 16];
                (octets[0], octets[1], octets[15]) = (first, last, last);
                IpAddr::V6(Ipv6Addr::from(octets))
            }
        })
}

/// Networks of all lengths, and with bits behind the prefix.
fn network(family: Family) -> impl Strategy<Value = IpNetwork> {
    (address(family), 0..=family.max_prefix())
        .prop_map(|(address, prefix)| IpNetwork::new(address, prefix).unwrap())
}

fn comment() -> impl Strategy<Value = Option<String>> {
    prop_oneof![4 => Just(None), 1 => "[a-z/:# -]{1,20}".prop_map(Some), 1 => Just(Some("x".repeat(128)))]
}

/// A field of a type.
fn field(kind: DataType, source: bool) -> Field {
    match (kind, source) {
        (DataType::Ipv4Addr | DataType::Ipv6Addr, true) => Field::SourceAddress,
        (DataType::Ipv4Addr | DataType::Ipv6Addr, false) => Field::DestinationAddress,
        (DataType::InetProto, _) => Field::Protocol,
        (DataType::InetService, true) => Field::SourcePort,
        (DataType::InetService, false) => Field::DestinationPort,
        (DataType::Mark, _) => Field::Mark,
        (DataType::Number, _) => Field::Random { modulus: 7 },
        (DataType::IfName, true) => Field::InputInterface,
        (DataType::IfName, false) => Field::OutputInterface,
    }
}
