//! What should be: pure functions of what was said and what was seen. No I/O, no clock.

pub mod allocation;
pub mod attachment_check;
pub mod bridge;
pub mod container;
pub mod delegate;
pub mod hashed_name;
pub mod host_veth;
pub mod mac_spoof;
pub mod masquerade;
mod observed_rules;
pub mod port_vlans;
pub mod portmap;
pub mod tuning;
