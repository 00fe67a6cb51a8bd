//! Random sets.

use std::collections::BTreeMap;

use kernel::{
    Family,
    nft::{Data, DataType, Element, Key, Set, SetData, Value},
};
use proptest::{collection::btree_map, prelude::*, sample::subsequence};

use super::{
    chains::{GROUPS, verdict},
    values::{comment, network, value},
};

/// Every set that there can be: its name, key and data.
pub(super) fn stock(family: Family) -> Vec<(&'static str, Vec<DataType>, Option<SetData>)> {
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

pub(super) fn sets(family: Family) -> impl Strategy<Value = BTreeMap<String, Set>> {
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
            dynamic: false,
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

pub(super) fn values(types: Vec<DataType>) -> impl Strategy<Value = Vec<Value>> {
    types.into_iter().map(value).collect::<Vec<_>>()
}
