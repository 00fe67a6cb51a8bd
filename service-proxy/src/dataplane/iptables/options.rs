//! The options of iptables mode, by kube-proxy's names where it has them.

use clap::{Args, ValueEnum};
use kernel::{Family, iptables::Backend};

use crate::plan::{
    iptables::{Dispatch, Settings},
    nftables::NodeRules,
};

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

    /// Serve NodePorts on IPv4's loopback addresses as well, which are routed for that.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true",
        action = clap::ArgAction::Set)]
    pub iptables_localhost_nodeports: bool,

    /// The bit of the packet mark that says masquerade.
    #[arg(long, value_name = "BIT", default_value_t = 14, value_parser = clap::value_parser!(u8).range(0..=31))]
    pub iptables_masquerade_bit: u8,
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
    /// The kind of tables, if it is not to be found out.
    pub fn backend(&self) -> Option<Backend> {
        match self.iptables_backend {
            BackendOption::Auto => None,
            BackendOption::Nft => Some(Backend::Nft),
            BackendOption::Legacy => Some(Backend::Legacy),
        }
    }

    /// What of a family's rules is the same for all Services. Packets that belong to no connection are
    /// dropped, unless out of the window is in order (F35).
    pub fn settings(&self, family: Family, node: NodeRules, tcp_be_liberal: bool) -> Settings {
        Settings {
            family,
            node,
            dispatch: match self.iptables_dispatch {
                DispatchOption::Tree => Dispatch::Tree,
                DispatchOption::Flat => Dispatch::Flat,
            },
            mark: 1 << self.iptables_masquerade_bit,
            localhost_node_ports: self.iptables_localhost_nodeports,
            drop_invalid: !tcp_be_liberal,
            accounting: false,
        }
    }
}
