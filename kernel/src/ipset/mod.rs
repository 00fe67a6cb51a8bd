//! Sets of addresses and ports that rules of iptables look up (`linux/netfilter/ipset/ip_set.h`).
//!
//! `ipset save` shows the same. Changes are sent in batches over nfnetlink; no program is run.

mod change;
mod diff;
mod fake;
mod handle;
mod message;
mod refusal;
mod set;

pub use change::Change;
pub use diff::diff;
pub use fake::Fake;
pub use handle::Handle;
pub use set::{DEFAULT_MAX, Definition, Kind, Member, NAME_MAX, Named, ObservedSet, Set};

pub use crate::conntrack::Protocol;
