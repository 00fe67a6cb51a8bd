//! Services and endpoints as small parsed types, and the choice of endpoints.
//!
//! Nothing here knows where objects come from or which dataplane serves them.

mod address;
mod catalogue;
mod choice;
mod endpoint_slice;
mod name;
mod node;
mod object;
mod protocol;
mod service;

pub use address::parse_address;
pub use catalogue::Catalogue;
pub use choice::{Candidate, Choice, Here, candidates, choose};
pub use endpoint_slice::{Endpoint, EndpointSlice, Hints, SlicePort};
pub use name::{ObjectName, ServicePortName};
pub use node::{Node, ServiceCidr};
pub use object::{Change, ObjectKey, ObjectKind};
pub use protocol::{Protocol, UnknownProtocol};
pub use service::{Service, ServiceKind, ServicePort, TrafficPolicy};
