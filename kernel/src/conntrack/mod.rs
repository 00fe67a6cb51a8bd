//! The table of tracked flows (ctnetlink): read those of one protocol, delete single ones, count.
//!
//! Formats are those of `linux/netfilter/nfnetlink_conntrack.h`; `conntrack -L` shows the same.

mod flow;
mod handle;
mod message;

pub use flow::{Flow, Protocol, Status, Tuple};
pub use handle::Handle;
