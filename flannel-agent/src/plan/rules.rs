//! What the packet filter is wanted for, whichever it is.

/// The mark of packets that kube-proxy has masqueraded or will, by convention of Kubernetes.
pub(super) const MASQUERADED: u32 = 0x4000;

/// Which rules there should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Masquerade what leaves the network, or enters it at this node for pods of others.
    pub masquerade: bool,
    /// Choose the ports of that at random, so that concurrent connections do not clash.
    pub fully_random: bool,
    /// Let packets of pods be forwarded.
    pub forward: bool,
}
