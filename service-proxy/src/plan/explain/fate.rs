//! Which endpoints take a packet, and why the others don't.

use std::net::SocketAddr;

use serde::Serialize;

use crate::{
    model::{Candidate, Endpoint, EndpointSlice, Here, Service, ServicePortName, candidates},
    plan::Backend,
};

/// An endpoint that is listed for a Service port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fate {
    /// Its address and port.
    pub address: SocketAddr,
    /// The node that it is on, where that is known.
    pub node: Option<String>,
    /// Why it gets no packet like this one; `None`: it may.
    pub out: Option<Out>,
    /// It is on this node: a packet from itself is masqueraded.
    pub here: bool,
}

/// Why an endpoint gets no packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "because")]
pub enum Out {
    /// It is not ready, and not one that still serves on its way out.
    NotReady,
    /// It is on its way out, and others are ready.
    Leaving,
    /// It is not on this node, where the policy wants one.
    NotHere,
    /// It is for other nodes or zones.
    Hints {
        /// The nodes that it is for.
        nodes: Vec<String>,
        /// The zones that it is for.
        zones: Vec<String>,
    },
}

/// What is listed for a Service port, each with whether it is among those that take packets, and why not.
pub fn fates<'a>(
    service: &Service,
    slices: impl Iterator<Item = &'a EndpointSlice>,
    name: &ServicePortName,
    here: Here<'_>,
    wants_local: bool,
    taken: &[Backend],
) -> Vec<Fate> {
    let mut ports = service.ports.iter();
    let Some(port) = ports.find(|port| service.port_name(port) == *name) else {
        return Vec::new();
    };
    let takes = |candidate: &Candidate<'_>| {
        let mut taken = taken.iter();
        taken.any(|it| (it.address, it.port) == (candidate.endpoint.address, candidate.port))
    };
    let fate = |candidate: Candidate<'_>| Fate {
        address: SocketAddr::new(candidate.endpoint.address, candidate.port),
        node: candidate.endpoint.node.as_deref().map(Into::into),
        out: (!takes(&candidate)).then(|| out(candidate.endpoint, here, wants_local)),
        here: candidate
            .endpoint
            .node
            .as_deref()
            .is_none_or(|node| node == here.node),
    };
    candidates(port, slices).into_iter().map(fate).collect()
}

fn out(endpoint: &Endpoint, here: Here<'_>, wants_local: bool) -> Out {
    if !(endpoint.ready || (endpoint.serving && endpoint.terminating)) {
        Out::NotReady
    } else if wants_local && endpoint.node.as_deref() != Some(here.node) {
        Out::NotHere
    } else if !endpoint.ready {
        Out::Leaving
    } else {
        let hints = endpoint.hints.as_deref().cloned().unwrap_or_default();
        Out::Hints {
            nodes: hints.nodes,
            zones: hints.zones,
        }
    }
}
