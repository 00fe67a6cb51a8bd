//! The program: options, logging, and the daemon.

use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
};

use clap::Parser as _;
use kernel::{Family, nft::Handle};
use service_proxy::{
    daemon::{self, Settings},
    options::Options,
    reconcile,
};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Errors name their causes themselves.
            eprintln!("service-proxy: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> anyhow::Result<()> {
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::Level::INFO.into())
        .from_env()?
        // Every failed request is told of in our own words.
        .add_directive("kube_client=off".parse()?);
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .init();
    if options.cleanup {
        for family in reconcile::clean_up(&mut Handle::open()?)? {
            tracing::info!("removed everything of {family}");
        }
        return Ok(());
    }
    let node = options.node()?;
    let rules = Family::ALL.map(|family| options.rules(family));
    let settings = Settings {
        source: options.source(),
        node,
        rules,
        sync_period: options.sync_period,
        bindings: options.serving.bindings(),
        tuning: options.tuning.tuning(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(daemon::run(settings))?)
}
