//! The flannel-agent program.

use std::{
    env,
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::Context;
use clap::Parser;
use flannel_agent::{agent, cleanup, command::Look, options::Options, report};
use kernel::stdio::UntilClosed;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let arguments = env::args_os()
        .skip(1)
        .map(|it| it.to_string_lossy().into_owned());
    let arguments: Vec<_> = arguments.collect();
    if Look::is_asked_for(&arguments) {
        return look(&Look::parse());
    }
    let options =
        Options::parse_arguments(arguments, env::vars_os()).unwrap_or_else(|error| error.exit());
    if options.version {
        tell(&format!("tweed flannel-agent {}", release::text()));
        return ExitCode::SUCCESS;
    }
    report::start_log(options.v);
    tracing::info!("tweed flannel-agent {}", release::text());
    if let Some(flags) = options.without_effect() {
        tracing::warn!("{flags} has no effect here; -v and RUST_LOG choose what is logged");
    }
    let ended = if options.cleanup {
        cleanup::clean_up(&options.subnet_file).map_err(Into::into)
    } else {
        run(options)
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A command of somebody who looks at the agent.
fn look(look: &Look) -> ExitCode {
    let printed = look.run().map_err(anyhow::Error::from).and_then(|outcome| {
        let mut out = UntilClosed(io::stdout().lock());
        out.write_all(outcome.text.as_bytes()).context("print")?;
        Ok(outcome.is_well)
    });
    match printed {
        Ok(is_well) => ExitCode::from(u8::from(!is_well)),
        Err(error) => {
            tell(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Says a line on standard error.
fn tell(line: &str) {
    // Where nobody listens, the exit code is all that is left to tell it by.
    drop(writeln!(io::stderr(), "{line}"));
}

#[tokio::main(flavor = "current_thread")]
async fn run(options: Options) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("can't handle SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("can't handle SIGINT")?;
    tokio::select! {
        failed = agent::run(&options) => match failed {
            Ok(never) => match never {},
            Err(error) => return Err(error.into()),
        },
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping; the lease and what carries packets stay");
    Ok(())
}
