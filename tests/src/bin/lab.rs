//! The lab's command line.

use std::{
    io::{self, Write},
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::exit,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use kernel::stdio::UntilClosed;
use lab::{
    Lab, Plan, Programs,
    apiserver::{ApiServer, Options},
    demo, server, status,
};
use tokio::signal::unix::{SignalKind, signal};

/// A cluster of network namespaces that runs Tweed's real programs.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a cluster and leave it running.
    Up {
        /// The lab's name.
        #[arg(long, default_value = demo::NAME)]
        name: String,
        /// How many nodes.
        #[arg(long, default_value_t = 3)]
        nodes: u8,
    },
    /// Show a running cluster.
    Status {
        /// The lab's name.
        #[arg(long, default_value = demo::NAME)]
        name: String,
    },
    /// Take a cluster down, or what is left of it.
    Down {
        /// The lab's name.
        #[arg(long, default_value = demo::NAME)]
        name: String,
    },
    /// Bring a cluster up, show that it works, take it down.
    Demo {
        /// Leave it up.
        #[arg(long)]
        keep: bool,
    },
    /// What runs in the lab's pods: answers HTTP and UDP with its name and the client's address.
    Serve {
        /// The name to answer with.
        #[arg(long)]
        name: String,
        /// The port to listen on.
        #[arg(long)]
        port: u16,
    },
    /// Serve the Kubernetes API from memory, for clients under test; /_lab/ makes it go wrong.
    Apiserver {
        /// The address and port to listen on.
        #[arg(long)]
        listen: SocketAddr,
        /// The bearer token to ask for.
        #[arg(long)]
        token: Option<String>,
        /// Seconds between bookmarks.
        #[arg(long, default_value_t = 60)]
        bookmark_interval: u32,
        /// Where to write a kubeconfig file.
        #[arg(long)]
        kubeconfig: Option<PathBuf>,
    },
}

fn main() -> Result<()> {
    let mut out = UntilClosed(io::stdout());
    match Arguments::parse().command {
        Command::Up { name, nodes } => up(&name, nodes, &mut out),
        Command::Status { name } => status::print(&Lab::open(&name, Programs::find()?)?, &mut out),
        Command::Down { name } => {
            let found = Lab::down(&name)?;
            let told = if found {
                "taken down"
            } else {
                "nothing was there"
            };
            Ok(writeln!(out, "{told}")?)
        }
        Command::Demo { keep } => {
            take_down_when_interrupted(demo::NAME.to_owned())?;
            demo::run(keep, &mut out)
        }
        Command::Serve { name, port } => runtime()?.block_on(server::serve(name, port)),
        Command::Apiserver {
            listen,
            token,
            bookmark_interval,
            kubeconfig,
        } => {
            let options = Options {
                token,
                bookmark_interval: Duration::from_secs(bookmark_interval.max(1).into()),
                ..Options::default()
            };
            serve_api(listen, options, kubeconfig, &mut out)
        }
    }
}

fn serve_api(
    listen: SocketAddr,
    options: Options,
    kubeconfig: Option<PathBuf>,
    out: &mut dyn Write,
) -> Result<()> {
    let listener = TcpListener::bind(listen).with_context(|| format!("listen on {listen}"))?;
    let server = ApiServer::start_on(listener, options)?;
    if let Some(path) = kubeconfig {
        server.kubeconfig(&path)?;
    }
    writeln!(out, "serving {}", server.url())?;
    server.wait();
    Ok(())
}

fn up(name: &str, nodes: u8, out: &mut dyn Write) -> Result<()> {
    take_down_when_interrupted(name.to_owned())?;
    let mut lab = Lab::create(Plan::new(name, nodes)?, Programs::find()?)?;
    demo::bring_up(&mut lab, out)?;
    demo::web_service(&lab)?.write(&lab.plan().manifests())?;
    lab.keep();
    Ok(())
}

/// Ends the lab's programs, which don't see an interrupt from the terminal, and then this one.
fn take_down_when_interrupted(name: String) -> Result<()> {
    let runtime = runtime()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        )
    };
    std::thread::Builder::new()
        .name("interrupt".into())
        .spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            });
            if let Err(error) = Lab::down(&name) {
                // The exit code is the interrupt's in any case.
                drop(writeln!(io::stderr(), "take down lab {name}: {error:#}"));
            }
            exit(130);
        })?;
    Ok(())
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")
}
