//! One daemon per node that leases the node's subnet from etcd and keeps its VXLAN overlay, in flannel's
//! place and in its formats.
//!
//! What happens goes through the rooms in this order: [`source`] (etcd, the node) to [`model`] (parsed
//! types) to [`plan`] (pure: what should be) to the `kernel` crate to [`report`] (log, health, files).
//! [`agent`] runs it.

pub mod agent;
mod backoff;
pub mod cleanup;
pub mod command;
pub mod model;
pub mod options;
pub mod plan;
pub mod report;
pub mod source;
