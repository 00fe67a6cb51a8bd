//! The programs that are replaced: the real ones where they are given, else scripts that leave the state that they would
//! leave. And ours, new and old.

use std::{env, path::PathBuf};

use lab::Programs;

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

/// Our programs under test.
pub fn programs() -> [PathBuf; 3] {
    let programs = Programs::find().unwrap();
    [
        programs.cni_plugin(),
        programs.flannel_agent(),
        programs.service_proxy(),
    ]
}

/// Those of an older release, if they are given, else the same.
pub fn older() -> [PathBuf; 3] {
    let current = programs();
    let Some(older) = env::var_os("TWEED_OLDER").map(PathBuf::from) else {
        return current;
    };
    current.map(|it| older.join(it.file_name().unwrap()))
}
