//! What of the machine is set once, at the start: how flows are tracked, and whom the kernel kills when memory
//! runs out (service-proxy F36, F37).

use std::{fs, io, num::NonZero, thread::available_parallelism};

use kernel::sysctl;
use nix::{
    errno::Errno,
    sys::resource::{Resource, getrlimit, setrlimit},
};

use crate::plan::{Conntrack, Setting};

const OOM_SCORE_ADJ: &str = "/proc/self/oom_score_adj";

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
    /// it can be set in the first network namespace only, and `/proc/sys` may be read-only. Answers with what
    /// failed for the latter reason.
    pub fn apply(&self) -> Option<kernel::Error> {
        let mut read_only = None;
        let cores = available_parallelism().map_or(1, NonZero::get);
        let cores = u32::try_from(cores).unwrap_or(u32::MAX);
        for setting in self.conntrack.settings(cores) {
            match apply(&setting) {
                Ok(None) => {}
                Ok(Some(before)) => {
                    let Setting { key, value, .. } = setting;
                    tracing::info!("sysctl -w {key}={value} (it was {before})");
                }
                Err(error) => {
                    tracing::warn!(
                        "{error}; goes on without; set it on the host, or leave it alone by --conntrack-... \
                         options that are 0"
                    );
                    if error.errno() == Some(Errno::EROFS) {
                        read_only.get_or_insert(error);
                    }
                }
            }
        }
        read_only
    }
}

/// Lets this program have as many open connections as it may: each one that is relayed takes two descriptors,
/// and the usual limit is there for programs that use `select`.
pub fn use_all_descriptors() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        tracing::warn!(
            "raise the limit of open descriptors (RLIMIT_NOFILE): {error}; goes on without"
        );
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
