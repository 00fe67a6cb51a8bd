//! The log.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

/// Starts logging to standard error, a line for each event, from a level on. It is a number as klog's: what
/// is shown at 0 is `info` here, from 4 on `debug`, from 8 on `trace`. Without one `RUST_LOG` is followed.
pub fn start_log(verbosity: Option<u8>) {
    let info = || EnvFilter::new("info");
    let filter = match verbosity {
        None => EnvFilter::try_from_default_env().unwrap_or_else(|_| info()),
        Some(0..4) => info(),
        Some(4..8) => EnvFilter::new("debug"),
        Some(8..) => EnvFilter::new("trace"),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .init();
}
