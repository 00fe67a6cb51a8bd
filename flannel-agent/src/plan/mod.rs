//! Pure planning: what to lease, and what should stand in the kernel. No I/O, no clock; the same input
//! gives the same output.

mod claim;
mod device;
mod hash;
mod interface;
mod iptables;
mod nftables;
mod outdated;
mod overlay;
mod peers;
mod rules;
mod tables;
mod watched;

pub use claim::{Claimant, Full};
pub use device::{Device, link_changes};
pub use hash::vtep_mac;
pub use interface::{NoInterface, choose_interface, follow_interface};
pub use iptables::{OwnChain, iptables_chains, no_iptables_chains};
pub use nftables::{nft_table, nft_table_name};
pub use outdated::outdated_devices;
pub use overlay::{NoOverlay, Overlay};
pub use peers::{Peer, Peers, Way, peers};
use rules::MASQUERADED;
pub use rules::Rules;
pub use tables::{PROTOCOL, Place, TableDiff, Tables, diff, leftover_routes, wanted};
pub use watched::Watched;
