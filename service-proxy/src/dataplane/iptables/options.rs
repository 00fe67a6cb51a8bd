//! The options of iptables mode that kube-proxy has no names for.

use clap::{Args, ValueEnum};
use kernel::iptables::Backend;

use crate::{dataplane::Mode, plan::iptables::Dispatch};

/// How iptables mode works.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(next_help_heading = "iptables mode")]
pub struct IptablesOptions {
    /// How connections find their Service: by a tree of chains, or by kube-proxy's list with a rule for each
    /// Service port.
    #[arg(long, value_name = "LAYOUT", default_value = "tree")]
    pub iptables_dispatch: DispatchOption,

    /// Which kind of tables is written; auto: the one that kubelet or most rules are in.
    #[arg(long, value_name = "KIND", default_value = "auto")]
    pub iptables_backend: BackendOption,
}

/// How connections find their Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DispatchOption {
    /// By a tree of chains.
    Tree,
    /// By kube-proxy's list.
    Flat,
}

/// Which kind of tables is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BackendOption {
    /// The one in use.
    Auto,
    /// Those of nf_tables.
    Nft,
    /// The older ones.
    Legacy,
}

// === impl IptablesOptions ===

impl IptablesOptions {
    /// Puts what is given into the mode, if it is this one.
    pub fn apply(&self, mode: &mut Mode) {
        let Mode::Iptables(mode) = mode else {
            return;
        };
        mode.dispatch = match self.iptables_dispatch {
            DispatchOption::Tree => Dispatch::Tree,
            DispatchOption::Flat => Dispatch::Flat,
        };
        mode.backend = self.backend();
    }

    /// The kind of tables, if one is given.
    pub fn backend(&self) -> Option<Backend> {
        match self.iptables_backend {
            BackendOption::Auto => None,
            BackendOption::Nft => Some(Backend::Nft),
            BackendOption::Legacy => Some(Backend::Legacy),
        }
    }
}
