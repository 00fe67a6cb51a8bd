//! Pure planning: what to lease, and what should stand in the kernel. No I/O, no clock; the same input
//! gives the same output.

mod annotations;
mod blackhole;
mod claim;
mod conf_update;
mod device;
mod hash;
mod interface;
mod iptables;
mod loss;
mod missing;
mod nftables;
mod outdated;
mod overlay;
mod peers;
mod remains;
mod rules;
#[cfg(test)]
mod sample;
mod standing;
mod tables;
mod watched;
mod wireguard;

pub use annotations::annotation_changes;
pub use blackhole::blackhole_route;
pub use claim::{Claimant, Full, History};
pub use conf_update::ConfUpdate;
pub use device::{Device, DeviceKind, link_changes};
pub use hash::{machine_hash, vtep_mac};
pub use interface::{
    InterfaceSearch, NoInterface, Reach, check_interface, choose_interface, follow_interface,
};
pub use iptables::{OwnChain, iptables_chains, no_iptables_chains};
pub use loss::Loss;
pub use missing::missing;
pub use nftables::{nft_table, nft_table_name};
pub use outdated::outdated_devices;
pub use overlay::{NoOverlay, Overlay};
pub use peers::{Peer, Peers, Way, peer, peers};
pub use remains::{Remains, remains};
use rules::MASQUERADED;
pub use rules::Rules;
pub use standing::{ChangedPeers, Standing};
pub use tables::{PROTOCOL, Place, TableDiff, Tables, diff, leftover_routes, wanted};
pub use watched::Watched;
use wireguard::endpoint;
pub use wireguard::{Tunnel, Tunnels, tunnel_changes, tunnels, wireguard_settings};
