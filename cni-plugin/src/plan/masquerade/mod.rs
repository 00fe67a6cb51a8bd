//! By which rules a container's packets leave the node under the node's address.
//!
//! Names and words are those of the reference plugin, so that either removes what the other made.

pub mod iptables;
pub mod nftables;
