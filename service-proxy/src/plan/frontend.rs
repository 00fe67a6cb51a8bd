//! What each address of a Service leads to.

use std::{collections::BTreeMap, fmt, net::IpAddr, time::Duration};

use ipnetwork::IpNetwork;
use kernel::Family;

use crate::model::{
    Candidate, Choice, EndpointSlice, Here, Protocol, Service, ServicePort, ServicePortName,
    TrafficPolicy, candidates, choose,
};

/// What clients connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    /// The address.
    pub address: Address,
    /// The protocol.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
}

/// The address that clients connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// One of the Service's own.
    Own(IpAddr),
    /// Any of the node's that NodePorts are served on.
    Node,
}

/// Where connections to a frontend go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balance {
    /// The Service port, for people.
    pub name: ServicePortName,
    /// How connections come in.
    pub entrance: Entrance,
    /// Whether `backends` are those of the cluster or those on this node.
    pub scope: TrafficPolicy,
    /// The endpoints that connections are spread over evenly.
    pub backends: Vec<Backend>,
    /// Of [`Entrance::ExternalLocal`], the endpoints for connections from outside: those on this node.
    pub local: Vec<Backend>,
    /// What becomes of connections that there is no endpoint for.
    pub otherwise: Otherwise,
    /// Who may connect, if not anybody (F20).
    pub sources: Option<Vec<IpNetwork>>,
    /// How long a client keeps its endpoint after its last connection to any frontend of the Service port, if
    /// it does (F22).
    pub affinity: Option<Duration>,
}

/// How connections come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entrance {
    /// By a cluster IP.
    Internal,
    /// From outside, to any endpoint: masqueraded, so that answers come back by this node (F12).
    External,
    /// From outside, to endpoints on this node only, which see the client's address (F11).
    ExternalLocal,
}

/// What becomes of connections that there is no endpoint for (1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Otherwise {
    /// They are refused at once: there is none anywhere.
    Refuse,
    /// They are dropped without a word: there are some, but not here.
    Drop,
}

/// An endpoint as a dataplane sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Backend {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// It is on this node, or may be: nobody said where it is.
    pub here: bool,
}

// === impl Frontend ===

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, port, .. } = self;
        match self.address {
            Address::Own(address) => write!(f, "{address} {protocol} port {port}"),
            Address::Node => write!(f, "NodePort {protocol} {port}"),
        }
    }
}

// === impl Balance ===

impl Balance {
    /// Whether there are connections that no endpoint takes.
    pub fn is_lacking(&self) -> bool {
        self.backends.is_empty()
            || (self.entrance == Entrance::ExternalLocal && self.local.is_empty())
    }
}

/// The frontends of a Service in one family, as seen from a node.
pub fn frontends<'a>(
    service: &Service,
    slices: impl Iterator<Item = &'a EndpointSlice> + Clone,
    family: Family,
    here: Here<'_>,
) -> BTreeMap<Frontend, Balance> {
    let Some(cluster_ip) = service.cluster_ip(family) else {
        return BTreeMap::new();
    };
    let slices = slices.filter(|slice| slice.family == family);
    let mut frontends = BTreeMap::new();
    for port in &service.ports {
        let candidates = candidates(port, slices.clone());
        let choice = choose(&candidates, here);
        let mut add = |address, number, balance| {
            let frontend = Frontend {
                address,
                protocol: port.protocol,
                port: number,
            };
            // The API server refuses a Service with one port twice; of a manifest the first counts.
            frontends.entry(frontend).or_insert(balance);
        };
        add(
            Address::Own(cluster_ip),
            port.port,
            internal(service, port, &choice, here),
        );
        let external = external(service, port, &choice, here);
        for (address, sources) in external_addresses(service, family, here) {
            let balance = Balance {
                sources,
                ..external.clone()
            };
            add(Address::Own(address), port.port, balance);
        }
        if let Some(number) = port.node_port {
            add(Address::Node, number, external);
        }
    }
    frontends
}

/// The addresses outside the cluster, each with who may connect to it if not anybody.
fn external_addresses(
    service: &Service,
    family: Family,
    here: Here<'_>,
) -> impl Iterator<Item = (IpAddr, Option<Vec<IpNetwork>>)> {
    let sources = sources(service, family);
    let balancers = service.load_balancer_ips.iter().map(move |address| {
        let sources = sources.clone();
        (*address, sources.map(|it| with_node(it, *address, here)))
    });
    let others = service.external_ips.iter().map(|address| (*address, None));
    balancers
        .chain(others)
        .filter(move |(address, _)| Family::of(address) == family)
}

/// Where the node itself may connect, so may the balancer's own address: a connection to it that the node makes
/// can come from that (F20).
fn with_node(mut sources: Vec<IpNetwork>, balancer: IpAddr, here: Here<'_>) -> Vec<IpNetwork> {
    let has_node = |range: &IpNetwork| here.addresses.iter().any(|it| range.contains(*it));
    let balancer = IpNetwork::from(balancer);
    if sources.iter().any(has_node) && !sources.contains(&balancer) {
        sources.push(balancer);
        sources.sort_unstable();
    }
    sources
}

/// Who may connect to the load balancer's addresses; `None`: anybody, as no range is given, or one that
/// holds everybody. Ranges of the other family are of no account (F4, F20).
fn sources(service: &Service, family: Family) -> Option<Vec<IpNetwork>> {
    let own = service.source_ranges.iter().copied();
    let own = own.filter(|range| Family::of_network(range) == family);
    let mut own: Vec<_> = own.collect();
    own.sort_unstable();
    own.dedup();
    let everybody = own.iter().any(|range| range.prefix() == 0);
    (!own.is_empty() && !everybody).then_some(own)
}

/// How a cluster IP is seen.
fn internal(service: &Service, port: &ServicePort, choice: &Choice<'_>, here: Here<'_>) -> Balance {
    let chosen = match service.internal {
        TrafficPolicy::Cluster => &choice.cluster,
        TrafficPolicy::Local => &choice.local,
    };
    Balance {
        name: service.port_name(port),
        entrance: Entrance::Internal,
        scope: service.internal,
        backends: backends(chosen, here),
        local: Vec::new(),
        otherwise: otherwise(choice),
        sources: None,
        affinity: service.affinity,
    }
}

/// How all other addresses are seen.
fn external(service: &Service, port: &ServicePort, choice: &Choice<'_>, here: Here<'_>) -> Balance {
    let (entrance, local) = match service.external {
        TrafficPolicy::Cluster => (Entrance::External, Vec::new()),
        TrafficPolicy::Local => (Entrance::ExternalLocal, backends(&choice.local, here)),
    };
    Balance {
        name: service.port_name(port),
        entrance,
        scope: TrafficPolicy::Cluster,
        backends: backends(&choice.cluster, here),
        local,
        otherwise: otherwise(choice),
        sources: None,
        affinity: service.affinity,
    }
}

fn otherwise(choice: &Choice<'_>) -> Otherwise {
    if choice.is_empty() {
        Otherwise::Refuse
    } else {
        Otherwise::Drop
    }
}

fn backends(candidates: &[Candidate<'_>], here: Here<'_>) -> Vec<Backend> {
    candidates
        .iter()
        .map(|candidate| backend(candidate, here.node))
        .collect()
}

fn backend(candidate: &Candidate<'_>, node: &str) -> Backend {
    Backend {
        address: candidate.endpoint.address,
        port: candidate.port,
        here: candidate
            .endpoint
            .node
            .as_deref()
            .is_none_or(|named| named == node),
    }
}

#[cfg(test)]
mod tests;
