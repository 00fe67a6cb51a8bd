//! Where the agent's input comes from: etcd, the node's own network, its identity.

pub mod etcd;
mod host;
mod node;

pub use host::{interface_towards, read_host, read_interface, read_links};
pub use node::{node_id, owner};
