//! Which numbers Service ports and their endpoints have in the maps of session affinity (F22).
//!
//! A session is an element that the kernel makes: client and Service port, both of its families' frontends
//! alike, to an endpoint. The number of an endpoint is never used again once that endpoint can no longer be
//! used, so that a session with it leads nowhere and is made anew, without anybody looking for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use kernel::nft::{Data, Element, Key, ObservedSet, ObservedTable, Value};

use super::{
    elements,
    layout::{self, SESSIONS},
    slots::{self, Socket},
};
use crate::{
    model::{ObjectName, Protocol, TrafficPolicy},
    plan::{Backend, Balance, Frontend},
};

/// A port of a Service: by name and protocol.
type PortName = (Arc<str>, Protocol);

/// The numbers of all Service ports whose clients keep their endpoints.
#[derive(Debug, Default)]
pub struct Sessions {
    ports: BTreeMap<ObjectName, BTreeMap<PortName, Port>>,
    /// The last number that was given away.
    last: u32,
}

/// The numbers of one Service port.
#[derive(Clone, Debug, Default)]
struct Port {
    id: u32,
    endpoints: BTreeMap<Socket, u32>,
    /// Endpoints of the cluster in the order of their slots.
    cluster: Vec<Backend>,
    /// Endpoints on this node in the order of their slots.
    local: Vec<Backend>,
}

/// The numbers that a frontend's elements need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// Of the Service port.
    pub service: u32,
    /// Of the frontend's endpoints, slot by slot.
    pub backends: Vec<u32>,
    /// Of its endpoints on this node.
    pub local: Vec<u32>,
}

/// What of the numbers stands in the kernel.
#[derive(Debug, Default)]
struct Standing {
    /// Service ports by frontend.
    services: BTreeMap<Frontend, u32>,
    /// Endpoints by scope, Service port and slot.
    slots: BTreeMap<(bool, u32), Vec<(usize, u32)>>,
    endpoints: BTreeMap<u32, Socket>,
    /// The largest number that is in use anywhere.
    last: u32,
}

// === impl Sessions ===

impl Sessions {
    /// Takes in what a Service is now, and puts the endpoints of each frontend in the order of their slots.
    pub fn update(&mut self, service: &ObjectName, frontends: &mut BTreeMap<Frontend, Balance>) {
        let mut before = self.ports.remove(service).unwrap_or_default();
        let mut ports: BTreeMap<PortName, Port> = BTreeMap::new();
        for balance in frontends.values().filter(|it| it.affinity.is_some()) {
            let port = ports.entry(port_name(balance)).or_default();
            match balance.scope {
                TrafficPolicy::Cluster => port.cluster.clone_from(&balance.backends),
                TrafficPolicy::Local => port.local.clone_from(&balance.backends),
            }
            if !balance.local.is_empty() {
                port.local.clone_from(&balance.local);
            }
        }
        for (name, port) in &mut ports {
            self.number(port, before.remove(name));
        }
        if !ports.is_empty() {
            self.ports.insert(service.clone(), ports);
        }
        frontends
            .values_mut()
            .for_each(|balance| self.order(balance));
    }

    /// Puts the endpoints of a frontend in the order of the slots that they have in all of its Service port.
    pub fn order(&self, balance: &mut Balance) {
        if let Some(port) = self.port(balance) {
            port.order(balance);
        }
    }

    /// The numbers for a frontend, if clients keep their endpoints.
    pub fn numbers(&self, balance: &Balance) -> Option<Numbers> {
        Some(self.port(balance)?.numbers(balance))
    }

    fn port(&self, balance: &Balance) -> Option<&Port> {
        balance.affinity?;
        let ports = self.ports.get(&balance.name.service)?;
        ports.get(&port_name(balance))
    }

    /// Takes over the numbers that stand in the kernel, so that sessions outlive this program. `frontends`
    /// are all that have sessions.
    pub fn adopt<'a>(
        &mut self,
        observed: &ObservedTable,
        frontends: impl Iterator<Item = (&'a Frontend, &'a Balance)>,
    ) {
        let standing = Standing::read(observed);
        let mut ids: BTreeMap<(ObjectName, PortName), u32> = BTreeMap::new();
        let mut taken = BTreeSet::new();
        for (frontend, balance) in frontends {
            let key = (balance.name.service.clone(), port_name(balance));
            let id = standing.services.get(frontend).copied();
            if let Some(id) = id.filter(|_| !ids.contains_key(&key))
                && taken.insert(id)
            {
                ids.insert(key, id);
            }
        }
        self.last = standing.last;
        let all: Vec<_> = self
            .ports
            .iter()
            .flat_map(|(service, ports)| ports.keys().map(|port| (service.clone(), port.clone())))
            .collect();
        for (service, name) in all {
            let known = ids.get(&(service.clone(), name.clone()));
            let before = known.map(|id| standing.port(*id, &mut taken));
            let ports = self.ports.get_mut(&service);
            let Some(mut port) = ports.and_then(|ports| ports.remove(&name)) else {
                continue;
            };
            (port.id, port.endpoints) = (0, BTreeMap::new());
            self.number(&mut port, before);
            self.ports.entry(service).or_default().insert(name, port);
        }
    }

    /// Gives numbers to a Service port and its endpoints: those that they had, or new ones.
    fn number(&mut self, port: &mut Port, before: Option<Port>) {
        let before = before.unwrap_or_default();
        port.id = if before.id == 0 {
            self.fresh()
        } else {
            before.id
        };
        slots::keep(&before.cluster, &mut port.cluster);
        slots::keep(&before.local, &mut port.local);
        for backend in port.cluster.iter().chain(&port.local) {
            let socket = slots::socket(backend);
            let known = before.endpoints.get(&socket).copied();
            port.endpoints
                .entry(socket)
                .or_insert_with(|| known.unwrap_or_else(|| self.fresh()));
        }
    }

    fn fresh(&mut self) -> u32 {
        self.last = self.last.wrapping_add(1).max(1);
        self.last
    }
}

// === impl Port ===

impl Port {
    fn order(&self, balance: &mut Balance) {
        match balance.scope {
            TrafficPolicy::Cluster => balance.backends.clone_from(&self.cluster),
            TrafficPolicy::Local => balance.backends.clone_from(&self.local),
        }
        if !balance.local.is_empty() {
            balance.local.clone_from(&self.local);
        }
    }

    fn numbers(&self, balance: &Balance) -> Numbers {
        let of = |backends: &[Backend]| {
            let numbers = backends.iter().map(|backend| {
                let number = self.endpoints.get(&slots::socket(backend));
                number.copied().unwrap_or_default()
            });
            numbers.collect()
        };
        Numbers {
            service: self.id,
            backends: of(&balance.backends),
            local: of(&balance.local),
        }
    }
}

// === impl Standing ===

impl Standing {
    fn read(observed: &ObservedTable) -> Self {
        let mut standing = Self::default();
        for set in [layout::SESSION_SERVICES, layout::NODE_PORT_SESSION_SERVICES] {
            for (key, id) in ids(observed, set) {
                let frontend = elements::frontend_of(key);
                standing
                    .services
                    .extend(frontend.map(|frontend| (frontend, id)));
                standing.last = standing.last.max(id);
            }
        }
        for local in [false, true] {
            standing.read_endpoints(observed, local);
        }
        // Sessions can have numbers of endpoints that have gone.
        for (key, id) in ids(observed, SESSIONS) {
            standing.last = standing.last.max(id).max(mark(key.last()).unwrap_or(0));
        }
        standing
    }

    fn read_endpoints(&mut self, observed: &ObservedTable, local: bool) {
        for (key, id) in ids(observed, layout::session_slots(local)) {
            if let [Value::Mark(service), Value::Mark(slot)] = *key.as_slice()
                && let Ok(slot) = usize::try_from(slot)
            {
                let slots = self.slots.entry((local, service)).or_default();
                slots.push((slot, id));
                self.last = self.last.max(id);
            }
        }
        for (key, element) in elements_of(observed, layout::session_endpoints(local)) {
            if let (Some(id), Some(socket)) = (mark(key.last()), elements::socket_of(element)) {
                self.endpoints.insert(id, socket);
                self.last = self.last.max(id);
            }
        }
    }

    /// A Service port as it stands in the kernel. No number is taken twice.
    fn port(&self, id: u32, taken: &mut BTreeSet<u32>) -> Port {
        let mut port = Port {
            id,
            ..Port::default()
        };
        let [cluster, local] = [false, true].map(|local| {
            let mut slots = self.slots.get(&(local, id)).cloned().unwrap_or_default();
            slots.sort_unstable();
            slots
        });
        for ((_, number), is_local) in cluster
            .iter()
            .map(|slot| (slot, false))
            .chain(local.iter().map(|slot| (slot, true)))
        {
            let Some(socket) = self.endpoints.get(number) else {
                continue;
            };
            if port.endpoints.get(socket) != Some(number) && !taken.insert(*number) {
                continue;
            }
            port.endpoints.entry(*socket).or_insert(*number);
            let backends = if is_local {
                &mut port.local
            } else {
                &mut port.cluster
            };
            backends.push(Backend {
                address: socket.0,
                port: socket.1,
                here: false,
            });
        }
        port
    }
}

/// The endpoint that a client keeps at a frontend, by what stands in the kernel.
pub fn kept(observed: &ObservedTable, frontend: &Frontend, client: IpAddr) -> Option<Socket> {
    let services = [layout::SESSION_SERVICES, layout::NODE_PORT_SESSION_SERVICES];
    let mut services = services.into_iter().flat_map(|set| ids(observed, set));
    let (_, service) =
        services.find(|(key, _)| elements::frontend_of(key).as_ref() == Some(frontend))?;
    let session = [Value::Address(client), Value::Mark(service)];
    let (_, endpoint) = ids(observed, SESSIONS).find(|(key, _)| key.as_slice() == session)?;
    let mut endpoints = [false, true]
        .into_iter()
        .flat_map(|local| elements_of(observed, layout::session_endpoints(local)));
    let (_, element) = endpoints.find(|(key, _)| mark(key.last()) == Some(endpoint))?;
    elements::socket_of(element)
}

fn port_name(balance: &Balance) -> PortName {
    (balance.name.port.clone(), balance.name.protocol)
}

/// The elements of a map of ours as it stands in the kernel.
fn elements_of<'a>(
    observed: &'a ObservedTable,
    set: &str,
) -> impl Iterator<Item = (&'a Key, &'a Element)> {
    let set = match observed.sets.get(set) {
        Some(ObservedSet::Known(set)) => Some(set),
        _ => None,
    };
    set.into_iter().flat_map(|set| &set.elements)
}

/// The same of a map of numbers.
fn ids<'a>(observed: &'a ObservedTable, set: &str) -> impl Iterator<Item = (&'a Key, u32)> {
    elements_of(observed, set).filter_map(|(key, element)| match element.data.as_ref()? {
        Data::Value(values) => mark(values.last()).map(|id| (key, id)),
        Data::Verdict(_) => None,
    })
}

fn mark(value: Option<&Value>) -> Option<u32> {
    match value? {
        Value::Mark(number) => Some(*number),
        _ => None,
    }
}
