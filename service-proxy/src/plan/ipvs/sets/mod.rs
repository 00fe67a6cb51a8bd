//! The ipsets of IPVS mode, under kube-proxy's names.

mod former;
mod guard;
mod members;
mod name;

pub use former::Former;
pub use guard::{GuardChange, ObservedSets, SetsGuard};
pub use name::SetName;

use kernel::ipset::DEFAULT_MAX;

use self::members::Placed;

/// How many members a set is made for that has some: kube-proxy's number, or twice as many and more.
fn capacity(length: usize) -> u32 {
    let room = (2 * length).next_power_of_two();
    u32::try_from(room).unwrap_or(u32::MAX).max(DEFAULT_MAX)
}
