//! Nodes.

/// What of a node matters to the proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its zone: the label `topology.kubernetes.io/zone` (F13).
    pub zone: Option<String>,
}
