//! Random chains.

use std::collections::BTreeMap;

use kernel::{
    Family,
    nft::{
        BaseChain, Chain, ChainKind, DataType, Field, Hook, Match, Operator, Policy, Rule,
        Statement, Value, Verdict,
    },
};
use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::{select, subsequence},
};

use super::{
    sets::stock,
    values::{comment, field, network, protocol, value},
};

/// Where a group of chains is called from, and what can be done there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    pub(super) name: &'static str,
    kind: ChainKind,
    hooks: &'static [Hook],
}

pub(super) const GROUPS: [Group; 3] = [
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

fn regular(group: Group, index: usize) -> String {
    format!("{}-{index}", group.name)
}

pub(super) fn chains_of(family: Family, group: Group) -> BoxedStrategy<BTreeMap<String, Chain>> {
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

pub(super) fn verdict(group: Group, next: usize) -> impl Strategy<Value = Verdict> {
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
