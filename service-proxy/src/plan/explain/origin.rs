//! Who sends a packet.

use std::net::IpAddr;

use kernel::IfName;
use serde::Serialize;

use crate::plan::nftables::{NodeRules, Pods};

/// Who sends a packet, as the rules see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Origin {
    /// A pod. A node's own address in the pod network counts as one, if pods are known by that.
    Pod,
    /// The node itself.
    Node,
    /// Anybody else.
    Elsewhere,
}

/// What the kernel says of a packet's addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The source is an address of the node.
    pub source_on_node: bool,
    /// The interface that leads to the source, so that packets from there come in by it.
    pub source_interface: Option<IfName>,
    /// The destination is an address of the node.
    pub destination_on_node: bool,
}

// === impl Origin ===

impl Origin {
    pub(super) fn of(source: IpAddr, rules: &NodeRules, surroundings: &Surroundings) -> Self {
        let comes_in_by = |name: &dyn Fn(&str) -> bool| {
            let interface = surroundings.source_interface.as_ref();
            !surroundings.source_on_node && interface.is_some_and(|it| name(it.as_str()))
        };
        let is_pod = match &rules.pods {
            None => false,
            Some(Pods::Network(network)) => network.contains(source),
            Some(Pods::Bridge(bridge)) => comes_in_by(&|name| name == bridge.as_str()),
            Some(Pods::InterfacePrefix(prefix)) => {
                comes_in_by(&|name| name.starts_with(prefix.as_str()))
            }
        };
        match (is_pod, surroundings.source_on_node) {
            (true, _) => Self::Pod,
            (false, true) => Self::Node,
            (false, false) => Self::Elsewhere,
        }
    }
}
