//! The programs that are replaced: the real ones where they are given, else scripts that leave the state that they would
//! leave.

use std::{env, path::PathBuf};

const FLANNELD: &str = include_str!("flanneld.sh");
const KUBE_PROXY: &str = include_str!("kube-proxy.sh");
const CNI: &str = include_str!("cni.sh");

/// Where each is installed, and what stands in for it.
pub const PROGRAMS: [(&str, &str); 6] = [
    ("/usr/local/bin/flanneld", FLANNELD),
    ("/usr/local/bin/kube-proxy", KUBE_PROXY),
    ("/opt/cni/bin/flannel", CNI),
    ("/opt/cni/bin/portmap", CNI),
    ("/opt/cni/bin/bridge", CNI),
    ("/opt/cni/bin/host-local", CNI),
];

/// A mode of a proxy.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Iptables,
    Nftables,
}

// === impl Mode ===

impl Mode {
    /// As `--proxy-mode` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Nftables => "nftables",
        }
    }

    /// Whether a step of the guide is for ours in this mode.
    pub fn takes(self, step: &str) -> bool {
        match self {
            Self::Iptables => !step.contains("until ! { iptables-save"),
            Self::Nftables => !step.contains("--iptables-dispatch"),
        }
    }

    /// Prints the rules in the kernel by which kube-proxy serves.
    pub fn rules(self) -> &'static str {
        match self {
            Self::Iptables => "iptables-save | grep -e '-j KUBE-SVC-'",
            Self::Nftables => "nft list table ip kube-proxy",
        }
    }
}

/// The real program, if it is given.
pub fn real(name: &str) -> Option<PathBuf> {
    let peers = env::var_os("TWEED_PEERS").map(PathBuf::from);
    peers.map(|it| it.join(name)).filter(|it| it.is_file())
}
