//! The options of IPVS mode that kube-proxy has no names for.

use clap::Args;

use super::Farewell;
use crate::{configuration::Span, dataplane::Mode};

/// How IPVS mode works.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(next_help_heading = "IPVS mode")]
pub struct IpvsOptions {
    /// How long an endpoint that is gone from its Service may keep its TCP connections; 0: until they end
    /// [default: 0s]
    #[arg(long, value_name = "DURATION")]
    pub ipvs_drain_timeout: Option<Span>,
}

// === impl IpvsOptions ===

impl IpvsOptions {
    /// Puts what is given into the mode, if it is this one, and whether connections to endpoints that have gone
    /// are reset.
    pub fn apply(&self, mode: &mut Mode, reset: bool) {
        let Mode::Ipvs(mode) = mode else {
            return;
        };
        let patience = self.ipvs_drain_timeout.unwrap_or_default();
        mode.farewell = Farewell {
            patience: (patience > Span::ZERO).then(|| patience.duration()),
            reset,
        };
    }
}
