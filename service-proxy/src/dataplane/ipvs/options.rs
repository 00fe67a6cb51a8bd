//! The options of IPVS mode that kube-proxy has no names for.

use clap::{Args, ValueEnum};
use kernel::iptables::Backend;

use super::{Farewell, Filter};
use crate::{configuration::Span, dataplane::Mode};

/// How IPVS mode works.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(next_help_heading = "IPVS mode")]
pub struct IpvsOptions {
    /// How long an endpoint that is gone from its Service may keep its TCP connections; 0: until they end
    /// [default: 0s]
    #[arg(long, value_name = "DURATION")]
    pub ipvs_drain_timeout: Option<Span>,

    /// What says who may connect, refuses, drops and masquerades beside virtual servers: a table of nftables, or
    /// ipsets and chains of iptables under kube-proxy's names, in the kind of tables that --iptables-backend says.
    #[arg(long, value_name = "KIND", default_value = "nft")]
    pub ipvs_filter: FilterOption,
}

/// What stands beside virtual servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FilterOption {
    /// A table of nftables.
    Nft,
    /// ipsets and chains of iptables.
    Ipset,
}

// === impl IpvsOptions ===

impl IpvsOptions {
    /// Puts what is given into the mode, if it is this one, and whether connections to endpoints that have gone
    /// are reset, and the kind of iptables if one is given.
    pub fn apply(&self, mode: &mut Mode, reset: bool, backend: Option<Backend>) {
        let Mode::Ipvs(mode) = mode else {
            return;
        };
        let patience = self.ipvs_drain_timeout.unwrap_or_default();
        mode.farewell = Farewell {
            patience: (patience > Span::ZERO).then(|| patience.duration()),
            reset,
        };
        mode.filter = match self.ipvs_filter {
            FilterOption::Nft => Filter::Table,
            FilterOption::Ipset => Filter::Sets(backend),
        };
    }
}
