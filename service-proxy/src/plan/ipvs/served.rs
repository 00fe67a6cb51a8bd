//! The addresses of the node that have virtual servers for NodePorts.

use std::net::IpAddr;

use kernel::Family;

use crate::plan::nftables::{NodePortAddresses, loopback};

/// Whether NodePorts are served on an address of the node: not on those of loopback, nor where the interface
/// would have to be known too.
pub(super) fn serves(node_ports: &NodePortAddresses, address: IpAddr) -> bool {
    let looped = loopback(Family::of(&address)).contains(address);
    let listed = match node_ports {
        NodePortAddresses::All | NodePortAddresses::Primary => true,
        NodePortAddresses::In(networks) => networks.iter().any(|it| it.contains(address)),
    };
    listed && !is_scoped(address) && !looped
}

/// Whether an address is one of many links, so that a virtual server, which names no interface, can't have it.
pub fn is_scoped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(ip) if ip.is_unicast_link_local())
}
