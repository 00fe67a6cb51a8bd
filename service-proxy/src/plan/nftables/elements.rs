//! The elements that a Service is made of.

use std::{collections::BTreeMap, net::IpAddr};

use kernel::nft::{Data, Element, Key, Value, Verdict};

use super::{
    Claim,
    layout::{
        self, Balancer, CLUSTER_IPS, ENTRANCES, FIREWALL, HAIRPIN, NO_ENDPOINT_NODE_PORTS,
        NO_ENDPOINTS, NODE_PORT_ENTRANCES,
    },
    pool::{self, Pool},
    shared::Need,
    slots::Socket,
    sources,
};
use crate::{
    model::{Protocol, ServicePortName},
    plan::{Address, Backend, Balance, Entrance, Frontend, Otherwise},
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
    pub fn add_frontend(&mut self, frontend: &Frontend, claim: &Claim) {
        let balance = &claim.balance;
        let by_node = frontend.address == Address::Node;
        let mut by_maps = claim.balancer == Balancer::Maps;
        for share in claim.shares(frontend) {
            let chain = match claim.sticky(&share) {
                Some(sticky) => sticky.chain_name(),
                None => share.pool.chain_name(share.backends.len()),
            };
            self.add_pool(share.pool, frontend, &chain, balance, share.backends);
            by_maps = true;
        }
        if let Some(numbers) = claim.numbers.as_ref().filter(|_| by_maps) {
            let set = Pool::of(frontend, false).session_services();
            self.insert(set, pool::key(frontend), number(numbers.service));
        }
        let entrance = match (balance.entrance, by_node) {
            (Entrance::Internal, _) => None,
            (Entrance::External, _) => Some(Verdict::Jump(layout::FROM_OUTSIDE.to_owned())),
            (Entrance::ExternalLocal, false) => Some(layout::goto(layout::LOCAL_ONLY)),
            (Entrance::ExternalLocal, true) => Some(layout::goto(layout::NODE_PORTS_LOCAL_ONLY)),
        };
        if let Some(verdict) = entrance {
            let set = if by_node {
                NODE_PORT_ENTRANCES
            } else {
                ENTRANCES
            };
            self.insert(set, pool::key(frontend), named(verdict, balance));
        }
        if balance.is_lacking() {
            let set = if by_node {
                NO_ENDPOINT_NODE_PORTS
            } else {
                NO_ENDPOINTS
            };
            let verdict = match balance.otherwise {
                Otherwise::Refuse => layout::goto(layout::REFUSE),
                Otherwise::Drop => Verdict::Drop,
            };
            self.insert(set, pool::key(frontend), named(verdict, balance));
        }
        if let Some(sources) = &balance.sources {
            let verdict = layout::goto(&sources::chain_name(sources));
            self.insert(FIREWALL, pool::key(frontend), named(verdict, balance));
        }
    }

    fn add_pool(
        &mut self,
        pool: Pool,
        frontend: &Frontend,
        chain: &str,
        balance: &Balance,
        backends: &[Backend],
    ) {
        let key = pool::key(frontend);
        for (slot, backend) in (0..).zip(backends) {
            let key = key.iter().cloned().chain([Value::Number(slot)]).collect();
            self.insert(
                pool.endpoints(),
                key,
                endpoint(backend.address, backend.port),
            );
        }
        let verdict = layout::goto(chain);
        self.insert(pool.frontends(), key, named(verdict, balance));
    }

    /// Adds what several frontends need.
    pub fn add_need(&mut self, need: &Need) {
        match *need {
            Need::Balance(..) | Need::Sources(_) | Need::Sticky(_) => {}
            Need::SessionSlot {
                local,
                service,
                slot,
                endpoint,
            } => {
                let key = vec![Value::Mark(service), Value::Mark(slot)];
                self.insert(layout::session_slots(local), key, number(endpoint));
            }
            Need::SessionEndpoint {
                local,
                protocol,
                number,
                address,
                port,
            } => {
                let key = vec![Value::Protocol(protocol.number()), Value::Mark(number)];
                let set = layout::session_endpoints(local);
                self.insert(set, key, endpoint(address, port));
            }
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

/// The frontend and slot of an element of a map of endpoints, and the endpoint in it.
pub fn slot_of(key: &Key, element: &Element) -> Option<(Frontend, usize, Socket)> {
    let (Value::Number(slot), frontend) = key.split_last()? else {
        return None;
    };
    let slot = usize::try_from(*slot).ok()?;
    Some((frontend_of(frontend)?, slot, socket_of(element)?))
}

/// The frontend of a key.
pub fn frontend_of(key: &[Value]) -> Option<Frontend> {
    let (address, rest) = match key {
        [Value::Address(address), rest @ ..] => (Address::Own(*address), rest),
        rest => (Address::Node, rest),
    };
    let [Value::Protocol(protocol), Value::Port(port)] = *rest else {
        return None;
    };
    Some(Frontend {
        address,
        protocol: Protocol::from_number(protocol)?,
        port,
    })
}

/// The endpoint in an element.
pub fn socket_of(element: &Element) -> Option<Socket> {
    match element.data.as_ref()? {
        Data::Value(values) => match *values.as_slice() {
            [Value::Address(address), Value::Port(port)] => Some((address, port)),
            _ => None,
        },
        Data::Verdict(_) => None,
    }
}

fn named(verdict: Verdict, balance: &Balance) -> Element {
    Element {
        data: Some(Data::Verdict(verdict)),
        comment: Some(comment(&balance.name)),
    }
}

fn endpoint(address: IpAddr, port: u16) -> Element {
    Element {
        data: Some(Data::Value(vec![
            Value::Address(address),
            Value::Port(port),
        ])),
        comment: None,
    }
}

fn number(number: u32) -> Element {
    Element {
        data: Some(Data::Value(vec![Value::Mark(0), Value::Mark(number)])),
        comment: None,
    }
}

/// The Service port, as much of it as a comment can hold. Names are ASCII, so any byte can be the last.
fn comment(name: &ServicePortName) -> String {
    let mut text = name.to_string();
    text.truncate(COMMENT);
    text
}
