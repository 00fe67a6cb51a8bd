//! IPVS: virtual servers, whose connections the kernel spreads over real servers (`linux/ip_vs.h`).

mod change;
mod fake;
mod handle;
mod message;
mod overtaken;
mod persistence;
mod server;

pub use change::Change;
pub use fake::Fake;
pub use handle::{CannotOpen, Handle};
pub use persistence::{Persistence, persistence};
pub use server::{
    Flags, Forwarding, ObservedReal, RealServer, Timeouts, VirtualAddress, VirtualServer,
};

pub use crate::conntrack::Protocol;
