//! Whether iptables gets to see what goes through bridges.

use std::{fs, io};

/// Appears when the kernel can show packets of bridges to iptables (spec 1.2).
const SETTING: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";

/// The kernel does not show packets of bridges to iptables.
#[derive(Debug, thiserror::Error)]
#[error(
    "Failed to check br_netfilter: {SETTING}: {0}; load the module (modprobe br_netfilter), or have nftables \
     used by \"EnableNFTables\": true in the network configuration"
)]
pub struct NoBridgeNetfilter(#[source] io::Error);

/// Checks what iptables needs for packets between pods of one node.
pub fn check_bridge_netfilter() -> Result<(), NoBridgeNetfilter> {
    fs::metadata(SETTING).map(drop).map_err(NoBridgeNetfilter)
}
