//! What should stand in the kernel, from the model. Pure.
//!
//! [`frontends`] says what each address of a Service leads to, in terms that every dataplane shares;
//! [`nftables`] turns that into elements of nftables maps.

pub mod explain;
mod frontend;
mod health_check;
pub mod iptables;
pub mod ipvs;
mod local_gaps;
mod localhost;
pub mod nftables;
mod stale;
mod tuning;

pub use frontend::{Address, Backend, Balance, Entrance, Frontend, Otherwise, frontends};
pub use health_check::HealthCheck;
pub use local_gaps::{Gaps, LocalGaps};
pub use localhost::{LoopbackPort, Transport, loopback_ports};
pub use stale::TrackedServices;
pub use tuning::{Conntrack, Setting};
