//! Nodes.

use ipnetwork::IpNetwork;

/// What of a node matters to the proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its zone: the label `topology.kubernetes.io/zone` (F13).
    pub zone: Option<String>,
    /// It is being deleted, or the autoscaler is about to: load balancers should send it nothing new (F30).
    pub leaving: bool,
    /// The networks that its pods have their addresses from (`spec.podCIDRs`; F27).
    pub pod_networks: Vec<IpNetwork>,
}
