//! EndpointSlices: parts of the list of a Service's endpoints.

use std::{net::IpAddr, sync::Arc};

use jiff::Timestamp;
use kernel::Family;

use super::{ObjectName, Protocol};

/// A part of the list of a Service's endpoints, of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Its own name.
    pub name: ObjectName,
    /// The Service whose endpoints it lists.
    pub service: ObjectName,
    /// The family of its endpoints.
    pub family: Family,
    /// The ports that each of its endpoints listens on.
    pub ports: Vec<SlicePort>,
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
    /// When what led to its latest change happened, where the controller says so.
    pub triggered: Option<Timestamp>,
}

/// A port that the endpoints of a slice listen on for a port of the Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    /// The name of the Service's port.
    pub name: Arc<str>,
    /// The protocol of the Service's port.
    pub protocol: Protocol,
    /// The port number that the endpoints listen on; can differ from slice to slice.
    pub port: u16,
}

/// Something that serves a Service: a pod as a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address.
    pub address: IpAddr,
    /// It takes new connections.
    pub ready: bool,
    /// It would answer, ready or on its way out.
    pub serving: bool,
    /// It is on its way out.
    pub terminating: bool,
    /// The node that it is on, where that is known. A catalogue has each name once.
    pub node: Option<Arc<str>>,
    /// Whom it should serve, where the control plane has said so (F13). Boxed, as most have none.
    pub hints: Option<Box<Hints>>,
}

/// Whom an endpoint should serve, if all endpoints of the Service say so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// `forZones`.
    pub zones: Vec<String>,
    /// `forNodes`.
    pub nodes: Vec<String>,
}
