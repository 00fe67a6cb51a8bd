//! flannel-agent.
pub mod model;
pub mod plan;
