//! Nodes.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

/// What of a node matters to the proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its zone: the label `topology.kubernetes.io/zone` (F13).
    pub zone: Option<String>,
    /// Its addresses, those within the cluster first: the first one of a family is its primary one (F16).
    pub addresses: Vec<IpAddr>,
    /// The networks that its pods have their addresses from (`spec.podCIDRs`; F27).
    pub pod_networks: Vec<IpNetwork>,
    /// It is being deleted, or the autoscaler is about to: load balancers should send it nothing new (F30).
    pub leaving: bool,
}

/// A ServiceCIDR: networks that cluster IPs are taken from (F15).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceCidr {
    /// The networks, one per family at the most.
    pub networks: Vec<IpNetwork>,
}
