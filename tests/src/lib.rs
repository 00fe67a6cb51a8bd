//! A cluster on one machine: every node and every pod is a network namespace, every program is the real one.
//!
//! ```text
//!   namespace tweed-LAB-fabric      etcd on 10.8.65.1
//!     bridge underlay ──┬──────────────┬──────────────┐
//!                       │ eth0         │ eth0         │ eth0      10.8.65.11, .12, .13
//!   tweed-LAB-node1 ────┘  node2 ──────┘   node3 ─────┘           flannel-agent, service-proxy
//!     cni0 ─┬────────┐
//!           │ eth0   │ eth0                                       made by running cni-plugin
//!   tweed-LAB-pod1  pod2
//! ```
//!
//! Nothing is made in the machine's own network namespace. Everything that a lab makes carries its name, so
//! that [`Lab::down`] finds it whatever became of the process that made it.

mod capabilities;
mod change;
mod cluster;
mod container;
mod etcd;
mod machine;
mod manifest;
mod namespace;
mod ping;
mod plan;
mod programs;
mod wait;

pub mod apiserver;
pub mod demo;
pub mod server;
pub mod status;

pub use change::{default_route, up};
pub use cluster::Lab;
pub use container::{Pod, Runtime, address};
pub use machine::Machine;
pub use manifest::{Endpoint, Service};
pub use namespace::Host;
pub use ping::{PingSummary, ping, start_ping};
pub use plan::{NodePlan, Plan};
pub use programs::Programs;
pub use wait::{patience, wait_until};
