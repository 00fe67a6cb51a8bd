//! The elements that a Service is made of.

use std::collections::BTreeMap;

use kernel::nft::{Data, Element, Key, Value, Verdict};

use super::{
    layout::{self, CLUSTER_IPS, ENDPOINTS, HAIRPIN, NO_ENDPOINTS, SERVICES},
    shared::Need,
    slots::Socket,
};
use crate::{
    model::{Protocol, ServicePortName},
    plan::{Backend, Balance, Frontend},
};

/// The longest comment of an element in bytes.
const COMMENT: usize = 128;

/// Elements by set.
#[derive(Debug, Default)]
pub struct Elements {
    sets: BTreeMap<&'static str, BTreeMap<Key, Element>>,
}

// === impl Elements ===

impl Elements {
    /// Adds what leads from a frontend to its endpoints.
    pub fn add_frontend(&mut self, frontend: &Frontend, balance: &Balance) {
        let key = key(frontend);
        let (set, chain) = match balance.backends.len() {
            0 => (NO_ENDPOINTS, layout::REFUSE.to_owned()),
            count => (SERVICES, layout::balance_chain(count)),
        };
        let element = Element {
            data: Some(Data::Verdict(Verdict::Goto(chain))),
            comment: Some(comment(&balance.name)),
        };
        for (slot, backend) in (0..).zip(&balance.backends) {
            let mut key = key.clone();
            key.push(Value::Number(slot));
            self.insert(ENDPOINTS, key, endpoint(backend));
        }
        self.insert(set, key, element);
    }

    /// Adds what several frontends need.
    pub fn add_need(&mut self, need: Need) {
        match need {
            Need::Balance(_) => {}
            Need::ClusterIp(address) => {
                self.insert(
                    CLUSTER_IPS,
                    vec![Value::Address(address)],
                    Element::default(),
                );
            }
            Need::Hairpin(address) => {
                self.insert(
                    HAIRPIN,
                    vec![Value::Address(address); 2],
                    Element::default(),
                );
            }
        }
    }

    /// The elements of a set.
    pub fn of(&self, set: &str) -> &BTreeMap<Key, Element> {
        const NONE: &BTreeMap<Key, Element> = &BTreeMap::new();
        self.sets.get(set).unwrap_or(NONE)
    }

    /// Takes the elements of a set out.
    pub fn take(&mut self, set: &str) -> BTreeMap<Key, Element> {
        self.sets.remove(set).unwrap_or_default()
    }

    fn insert(&mut self, set: &'static str, key: Key, element: Element) {
        self.sets.entry(set).or_default().insert(key, element);
    }
}

/// The frontend and slot of an element of the endpoints' map, and the endpoint in it.
pub fn slot_of(key: &Key, element: &Element) -> Option<(Frontend, usize, Socket)> {
    let [
        Value::Address(address),
        Value::Protocol(protocol),
        Value::Port(port),
        Value::Number(slot),
    ] = *key.as_slice()
    else {
        return None;
    };
    let frontend = Frontend {
        address,
        protocol: Protocol::from_number(protocol)?,
        port,
    };
    match element.data.as_ref()? {
        Data::Value(values) => match *values.as_slice() {
            [Value::Address(address), Value::Port(port)] => {
                Some((frontend, usize::try_from(slot).ok()?, (address, port)))
            }
            _ => None,
        },
        Data::Verdict(_) => None,
    }
}

fn key(frontend: &Frontend) -> Key {
    vec![
        Value::Address(frontend.address),
        Value::Protocol(frontend.protocol.number()),
        Value::Port(frontend.port),
    ]
}

fn endpoint(backend: &Backend) -> Element {
    Element {
        data: Some(Data::Value(vec![
            Value::Address(backend.address),
            Value::Port(backend.port),
        ])),
        comment: None,
    }
}

/// The Service port, as much of it as a comment can hold. Names are ASCII, so any byte can be the last.
fn comment(name: &ServicePortName) -> String {
    let mut text = name.to_string();
    text.truncate(COMMENT);
    text
}
