//! Pure planning: what to lease, and what should stand in the kernel. No I/O, no clock; the same input
//! gives the same output.

mod claim;
mod device;
mod hash;
mod interface;
mod outdated;
mod peers;
mod tables;
mod watched;

pub use claim::{Claimant, Full};
pub use device::{Device, NoDevice, link_changes};
pub use hash::vtep_mac;
pub use interface::{NoInterface, choose_interface, follow_interface};
pub use outdated::outdated_devices;
pub use peers::{Peer, Peers, peers};
pub use tables::{PROTOCOL, TableDiff, Tables, diff, wanted};
pub use watched::Watched;
