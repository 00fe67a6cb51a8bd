//! The program: options, logging, and the daemon.

use std::{
    env,
    io::{self, IsTerminal as _},
    process::ExitCode,
};

use clap::Parser as _;
use kernel::Family;
use service_proxy::{
    daemon::{self, Settings},
    dataplane,
    inspect::{self, Finding, Inspection},
    options::Options,
};
use tracing_subscriber::EnvFilter;

/// As diff(1) has it: 1 is a difference.
const TROUBLE: u8 = 2;

fn main() -> ExitCode {
    let command = env::args().nth(1);
    if command.is_some_and(|command| inspect::COMMANDS.contains(&command.as_str())) {
        return inspect(&Inspection::parse());
    }
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Errors name their causes themselves.
            eprintln!("service-proxy: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Looks, prints what is found, and changes nothing.
fn inspect(inspection: &Inspection) -> ExitCode {
    let found = log().and_then(|()| Ok(inspection.run(&mut io::stdout().lock())?));
    match found {
        Ok(Finding::Fine) => ExitCode::SUCCESS,
        Ok(Finding::Differs) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("service-proxy: {error}");
            ExitCode::from(TROUBLE)
        }
    }
}

fn log() -> anyhow::Result<()> {
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
    Ok(())
}

fn run(options: Options) -> anyhow::Result<()> {
    log()?;
    if options.cleanup {
        return Ok(dataplane::clean_up()?);
    }
    let node = options.node()?;
    let rules = Family::ALL.map(|family| options.rules(family));
    let tuning = options.tuning.tuning();
    let mode = options.mode(&rules);
    let settings = Settings {
        source: options.source(),
        node,
        rules,
        sync_period: options.sync_period,
        bindings: options.serving.bindings(),
        tuning,
        mode,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(daemon::run(settings))?)
}
