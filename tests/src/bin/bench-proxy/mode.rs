//! How a proxy is told to serve Services.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use clap::ValueEnum;

/// How Services are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// nftables.
    Nftables,
    /// iptables, with tables of nf_tables.
    IptablesNft,
    /// iptables, with legacy tables.
    IptablesLegacy,
}

/// The programs that proxies run, as they are called without a backend.
const PROGRAMS: [&str; 6] = [
    "iptables",
    "iptables-save",
    "iptables-restore",
    "ip6tables",
    "ip6tables-save",
    "ip6tables-restore",
];

// === impl Mode ===

impl Mode {
    /// Tells a proxy, with no programs but those of the wanted backend: kube-proxy has no option for that, and ours
    /// looks which one the node uses.
    ///
    /// # Errors
    /// If those programs are not installed.
    pub fn choose(self, command: &mut Command, directory: &Path) -> Result<()> {
        let (mode, backend) = match self {
            Self::Nftables => ("nftables", None),
            Self::IptablesNft => ("iptables", Some("nft")),
            Self::IptablesLegacy => ("iptables", Some("legacy")),
        };
        command.args(["--proxy-mode", mode]);
        let Some(backend) = backend else {
            return Ok(());
        };
        let programs = directory.join("bin");
        fs::create_dir(&programs)?;
        let multiple = find(&format!("xtables-{backend}-multi"))?;
        for name in PROGRAMS {
            symlink(&multiple, programs.join(name))?;
            let (family, what) = name.split_once("tables").unwrap_or((name, ""));
            symlink(
                &multiple,
                programs.join(format!("{family}tables-{backend}{what}")),
            )?;
        }
        command.env("PATH", programs);
        Ok(())
    }
}

fn find(program: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|path| path.exists())
        .with_context(|| format!("{program} is not in PATH"))
}
