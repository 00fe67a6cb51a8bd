//! Where the agent's input comes from: etcd or Kubernetes, files, the node's own network, its identity
//! and its key.

mod bridge_netfilter;
pub mod etcd;
mod host;
pub mod kube;
mod net_conf_file;
mod node;
mod probe;
mod wireguard_key;

pub use bridge_netfilter::{NoBridgeNetfilter, check_bridge_netfilter};
pub use host::{interface_towards, read_host, read_interface, read_links};
pub use net_conf_file::{InvalidFile, read_net_conf};
pub use node::{node_id, owner};
pub use probe::{Findings, probe};
pub use wireguard_key::{NoKey, wireguard_key, wireguard_key_file};
