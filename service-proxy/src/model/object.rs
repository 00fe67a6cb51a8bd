//! What names an object of any kind, and what becomes of it.

use std::{fmt, sync::Arc};

use super::{EndpointSlice, Node, ObjectName, Service, ServiceCidr};

/// What became of an object: what it is now, `None` if it is gone or nothing that the proxy serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Of a Service.
    Service(ObjectName, Option<Arc<Service>>),
    /// Of an EndpointSlice.
    EndpointSlice(ObjectName, Option<Arc<EndpointSlice>>),
    /// Of a Node, whose name has no namespace.
    Node(ObjectName, Option<Arc<Node>>),
    /// Of a ServiceCIDR, whose name has no namespace.
    ServiceCidr(ObjectName, Option<Arc<ServiceCidr>>),
}

/// What names an object: its kind and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKey {
    /// A Service.
    Service(ObjectName),
    /// An EndpointSlice.
    EndpointSlice(ObjectName),
    /// A Node, whose name has no namespace.
    Node(ObjectName),
    /// A ServiceCIDR, whose name has no namespace.
    ServiceCidr(ObjectName),
}

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// Services.
    Service,
    /// EndpointSlices.
    EndpointSlice,
    /// Nodes.
    Node,
    /// ServiceCIDRs.
    ServiceCidr,
}

// === impl Change ===

impl Change {
    /// The object that it is about.
    pub fn key(&self) -> ObjectKey {
        match self {
            Self::Service(name, _) => ObjectKey::Service(name.clone()),
            Self::EndpointSlice(name, _) => ObjectKey::EndpointSlice(name.clone()),
            Self::Node(name, _) => ObjectKey::Node(name.clone()),
            Self::ServiceCidr(name, _) => ObjectKey::ServiceCidr(name.clone()),
        }
    }
}

// === impl ObjectKey ===

impl ObjectKey {
    /// An object by kind and name.
    pub fn new(kind: ObjectKind, name: ObjectName) -> Self {
        match kind {
            ObjectKind::Service => Self::Service(name),
            ObjectKind::EndpointSlice => Self::EndpointSlice(name),
            ObjectKind::Node => Self::Node(name),
            ObjectKind::ServiceCidr => Self::ServiceCidr(name),
        }
    }

    /// The name.
    pub fn name(&self) -> &ObjectName {
        let (Self::Service(name)
        | Self::EndpointSlice(name)
        | Self::Node(name)
        | Self::ServiceCidr(name)) = self;
        name
    }

    /// The change that takes the object away.
    pub fn gone(self) -> Change {
        match self {
            Self::Service(name) => Change::Service(name, None),
            Self::EndpointSlice(name) => Change::EndpointSlice(name, None),
            Self::Node(name) => Change::Node(name, None),
            Self::ServiceCidr(name) => Change::ServiceCidr(name, None),
        }
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Node => "Node",
            Self::ServiceCidr => "ServiceCIDR",
        })
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name) => write!(f, "Service {name}"),
            Self::EndpointSlice(name) => write!(f, "EndpointSlice {name}"),
            Self::Node(name) => write!(f, "Node {}", name.name),
            Self::ServiceCidr(name) => write!(f, "ServiceCIDR {}", name.name),
        }
    }
}
