//! The log.

use std::{
    env,
    io::{self, IsTerminal},
};

use tracing_subscriber::EnvFilter;

/// Starts logging to standard error, a line for each event, from a level on. It is a number as klog's: what
/// is shown at 0 is `info` here, from 4 on `debug`, from 8 on `trace`. Without one `RUST_LOG` is followed.
pub fn start_log(verbosity: Option<u8>) {
    let filter = match verbosity {
        None => from_environment().unwrap_or_else(|| shown("info")),
        Some(0..4) => shown("info"),
        Some(4..8) => shown("debug"),
        Some(8..) => shown("trace"),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        // It would tell of a closed pipe by eprintln!, which panics there.
        .log_internal_errors(false)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .init();
}

/// What `RUST_LOG` says, if it says something that can be understood.
fn from_environment() -> Option<EnvFilter> {
    let wanted = env::var(EnvFilter::DEFAULT_ENV).ok()?;
    EnvFilter::try_new(&wanted).ok().map(|_| shown(&wanted))
}

/// Every failed request to the API server is told of in our own words, not in the library's as well.
fn shown(wanted: &str) -> EnvFilter {
    EnvFilter::new(format!("{wanted},kube_client=off"))
}
