//! The program: options, logging, and the daemon.

use std::{
    env,
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Parser as _;
use kernel::{Family, stdio::UntilClosed};
use service_proxy::{
    configuration::{self, Configuration, Follow, LogFormat},
    daemon::{self, Orders},
    dataplane::{self, Mode},
    inspect::{self, Finding, Inspection},
    options::{Options, normalized},
    report,
};
use tracing::Level;
use tracing_subscriber::EnvFilter;

/// As diff(1) has it: 1 is a difference.
const TROUBLE: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().map(normalized).collect();
    let command = arguments.get(1).map(String::as_str);
    if command.is_some_and(|command| inspect::COMMANDS.contains(&command)) {
        return inspect(&Inspection::parse_from(arguments));
    }
    match run(Options::parse_from(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Errors name their causes themselves; those with a context have one below it.
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(mut options: Options) -> anyhow::Result<()> {
    let mut loaded = options.load()?;
    if let Some(path) = &options.write_config_to {
        return write(path, &loaded.configuration);
    }
    let missing = missing(&options, &loaded.configuration)?;
    if missing.is_some() {
        options.instead_of_ipvs = Some("iptables");
        loaded = options.load()?;
    }
    let (settings, notes) = options.settings(&loaded.configuration)?;
    log(settings.verbosity, settings.log_format)?;
    tracing::info!("tweed service-proxy {}", release::text());
    report::warnings(&loaded.warnings);
    report::warnings(&notes);
    report::warnings(missing.as_slice());
    if options.cleanup == Some(true) {
        return Ok(dataplane::clean_up()?);
    }
    configuration::check_kernel(&loaded.configuration.mode)?;
    if options.init_only == Some(true) {
        settings.tuning.protect();
        // What could not be set has been told.
        settings.tuning.apply();
        match &settings.mode {
            Mode::Nftables => {}
            Mode::Iptables(mode) => {
                let rules = settings.rules(Family::V4);
                dataplane::iptables::prepare(&mode.settings_now(Family::V4, rules))?;
            }
            Mode::Ipvs(mode) => dataplane::ipvs::prepare(mode)?,
        }
        return Ok(());
    }
    let file = options.config.as_deref().zip(loaded.text);
    let orders = Orders {
        source: options.source(&settings),
        node: settings.node()?,
        file: file
            .map(|(path, text)| Follow::open(path, text))
            .transpose()?,
        configuration: loaded.configuration,
        options,
        settings,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(daemon::run(orders))?)
}

/// Why there is to be iptables mode in the place of IPVS mode, if there is.
///
/// # Errors
/// If there is to be no other.
fn missing(options: &Options, configuration: &Configuration) -> anyhow::Result<Option<String>> {
    if configuration.mode != "ipvs" || options.cleanup == Some(true) {
        return Ok(None);
    }
    match dataplane::ipvs::missing() {
        Some(why) if options.strict == Some(true) => {
            anyhow::bail!("mode: ipvs (--proxy-mode): {why}; without --strict, it falls back to iptables")
        }
        why => Ok(why.map(|why| {
            format!(
                "mode: ipvs (--proxy-mode): {why}; falls back to iptables until a restart; --strict refuses to start \
                 instead"
            )
        })),
    }
}

/// Looks, prints what is found, and changes nothing.
fn inspect(inspection: &Inspection) -> ExitCode {
    let mut out = UntilClosed(io::stdout().lock());
    let found = log(0, LogFormat::Text).and_then(|()| Ok(inspection.run(&mut out)?));
    match found {
        Ok(Finding::Fine) => ExitCode::SUCCESS,
        Ok(Finding::Differs) => ExitCode::FAILURE,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(TROUBLE)
        }
    }
}

fn complain(error: &str) {
    // Where nobody listens, the exit code is all that is left to tell it by.
    drop(writeln!(io::stderr(), "service-proxy: {error}"));
}

/// Tells what happens: as much as RUST_LOG says, or as a number of klog's stands for.
fn log(verbosity: u32, format: LogFormat) -> anyhow::Result<()> {
    let level = match verbosity {
        0..4 => Level::INFO,
        4..6 => Level::DEBUG,
        6.. => Level::TRACE,
    };
    let filter = EnvFilter::builder()
        .with_default_directive(level.into())
        .from_env()?
        // Every failed request is told of in our own words.
        .add_directive("kube_client=off".parse()?);
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        // It would tell of a closed pipe by eprintln!, which panics there.
        .log_internal_errors(false)
        .with_target(false);
    match format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}

/// Writes the configuration by way of another file, so that nobody reads half of it.
fn write(path: &std::path::Path, configuration: &Configuration) -> anyhow::Result<()> {
    let text = configuration::print(configuration)?;
    let attempted = || format!("--write-config-to: write {}", path.display());
    let directory = path.parent().filter(|it| !it.as_os_str().is_empty());
    let directory = directory.unwrap_or(std::path::Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(directory).with_context(attempted)?;
    file.write_all(text.as_bytes()).with_context(attempted)?;
    file.persist(path).with_context(attempted)?;
    Ok(())
}
