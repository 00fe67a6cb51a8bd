//! What of the machine is set once, at the start: how flows are tracked, and whom the kernel kills when memory
//! runs out (service-proxy F36, F37).

use std::{fs, io, num::NonZero, thread::available_parallelism, time::Duration};

use clap::Args;
use kernel::sysctl;

use crate::{
    options::go_duration,
    plan::{Conntrack, Setting},
};

const OOM_SCORE_ADJ: &str = "/proc/self/oom_score_adj";

/// What is set, by kube-proxy's options.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(next_help_heading = "Settings of the machine")]
pub struct TuningOptions {
    /// Tracked flows for each processor; 0: the limit is left as it is.
    #[arg(long, value_name = "NUMBER", default_value_t = 32_768)]
    pub conntrack_max_per_core: u32,

    /// Tracked flows at the least, whatever --conntrack-max-per-core comes to.
    #[arg(long, value_name = "NUMBER", default_value_t = 131_072)]
    pub conntrack_min: u32,

    /// How long idle TCP connections are tracked; 0: that is left as it is.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = go_duration)]
    pub conntrack_tcp_timeout_established: Duration,

    /// How long TCP connections are tracked that one side has closed; 0: that is left as it is.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = go_duration)]
    pub conntrack_tcp_timeout_close_wait: Duration,

    /// How long UDP is tracked that was not answered; 0: that is left as it is.
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = go_duration)]
    pub conntrack_udp_timeout: Duration,

    /// How long UDP is tracked that was answered; 0: that is left as it is.
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = go_duration)]
    pub conntrack_udp_timeout_stream: Duration,

    /// Take TCP packets out of the window for their connection's all the same.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t, default_missing_value = "true",
        action = clap::ArgAction::Set)]
    pub conntrack_tcp_be_liberal: bool,

    /// Forget tracked TCP connections to endpoints that are gone from their Service, so that clients that go on
    /// to send are reset instead of waiting in vain; those on their way out that still serve are left alone.
    #[arg(long)]
    pub reset_tcp_to_removed_endpoints: bool,

    /// How soon the kernel kills this program when memory runs out, from -1000 (never) to 1000.
    #[arg(long, value_name = "NUMBER", default_value_t = -999, allow_negative_numbers = true,
        value_parser = clap::value_parser!(i32).range(-1000..=1000))]
    pub oom_score_adj: i32,
}

/// What is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// How flows are tracked.
    pub conntrack: Conntrack,
    /// Whether TCP connections to endpoints that are gone are forgotten.
    pub reset_tcp: bool,
    /// How soon the kernel kills this program when memory runs out, from -1000 to 1000.
    pub oom_score_adj: i32,
}

// === impl TuningOptions ===

impl TuningOptions {
    /// What is set.
    pub fn tuning(&self) -> Tuning {
        Tuning {
            conntrack: Conntrack {
                max_per_core: self.conntrack_max_per_core,
                min: self.conntrack_min,
                tcp_established: self.conntrack_tcp_timeout_established,
                tcp_close_wait: self.conntrack_tcp_timeout_close_wait,
                udp: self.conntrack_udp_timeout,
                udp_stream: self.conntrack_udp_timeout_stream,
                tcp_be_liberal: self.conntrack_tcp_be_liberal,
            },
            reset_tcp: self.reset_tcp_to_removed_endpoints,
            oom_score_adj: self.oom_score_adj,
        }
    }
}

// === impl Tuning ===

impl Tuning {
    /// Sets how soon the kernel kills this program. What the kernel doesn't allow is told, and no reason not
    /// to work.
    pub fn protect(&self) {
        let wanted = self.oom_score_adj.to_string();
        if let Err(error) = write_if_other(&wanted) {
            tracing::warn!(
                "write {wanted} to {OOM_SCORE_ADJ} (--oom-score-adj): {error}; goes on without; it takes \
                 CAP_SYS_RESOURCE to lower the value"
            );
        }
    }

    /// Sets how flows are tracked. What the kernel doesn't allow is told, and no reason not to work: some of
    /// it can be set in the first network namespace only, and `/proc/sys` may be read-only.
    pub fn apply(&self) {
        let cores = available_parallelism().map_or(1, NonZero::get);
        let cores = u32::try_from(cores).unwrap_or(u32::MAX);
        for setting in self.conntrack.settings(cores) {
            match apply(&setting) {
                Ok(None) => {}
                Ok(Some(before)) => {
                    let Setting { key, value, .. } = setting;
                    tracing::info!("sysctl -w {key}={value} (it was {before})");
                }
                Err(error) => tracing::warn!(
                    "{error}; goes on without; set it on the host, or leave it alone by --conntrack-... \
                     options that are 0"
                ),
            }
        }
    }
}

/// Sets what is not as it should be; answers with what it was.
fn apply(setting: &Setting) -> kernel::Result<Option<String>> {
    let before = sysctl::get(setting.key)?;
    if before
        .parse()
        .is_ok_and(|value: u64| setting.is_met_by(value))
    {
        return Ok(None);
    }
    let changed = sysctl::set(setting.key, &setting.value.to_string())?;
    Ok(changed.then_some(before))
}

fn write_if_other(wanted: &str) -> io::Result<()> {
    if fs::read_to_string(OOM_SCORE_ADJ)?.trim() == wanted {
        return Ok(());
    }
    fs::write(OOM_SCORE_ADJ, wanted)
}
