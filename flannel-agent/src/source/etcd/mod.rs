//! etcd: the network configuration and the leases of all nodes (spec 1.4).

mod access;
mod error;
mod follow;
mod follow_config;
mod registry;
mod server;

pub use access::{Access, Credentials, InvalidCredentials};
pub use error::Error;
pub use follow::follow;
pub use follow_config::follow_config;
pub use registry::{Outcome, Registry};
