//! The Kubernetes API as source: Nodes have subnets, and agents tell each other by annotations (spec 1.10).

mod access;
mod error;
mod follow;
mod nodes;

pub use access::{Access, NoAccess, own_node_name};
pub use error::Error;
pub use follow::{Followed, follow};
pub use nodes::{AnnotationPrefix, InvalidPrefix, Nodes};
