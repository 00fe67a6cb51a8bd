//! The commands that look at a running agent: `flannel-agent status` and `flannel-agent check`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use clap::{Parser, Subcommand};
use serde::Serialize;

use crate::{
    report::{self, Check, NoStatus, PeerCheck, PeerStatus, Status, StatusTable},
    source::{self, Findings},
};

/// Looks at a running agent; without a command the program is the agent.
#[derive(Debug, Parser)]
#[command(name = "flannel-agent")]
pub struct Look {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the other nodes, and what is missing in the kernel for them
    Status(LookOptions),
    /// Send packets to every other node over the overlay, and show who answers and how large packets pass
    Check {
        #[command(flatten)]
        options: LookOptions,
        /// How many small packets are sent to each node
        #[arg(long, value_name = "NUMBER", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
        count: u32,
    },
}

#[derive(Debug, clap::Args)]
struct LookOptions {
    /// The --subnet-file of the running agent
    #[arg(long, value_name = "PATH", default_value = "/run/flannel/subnet.env")]
    subnet_file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What a command has to say, and whether all is well.
#[derive(Debug)]
pub struct Outcome {
    /// To be printed.
    pub text: String,
    /// Whether all is well.
    pub is_well: bool,
}

/// Why a command has nothing to say.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The agent does not tell.
    #[error(transparent)]
    NoStatus(#[from] NoStatus),
    /// The kernel sends nothing.
    #[error("{0} (is this root?)")]
    Kernel(#[from] kernel::Error),
}

// === impl Look ===

impl Look {
    /// Whether arguments are those of a command.
    pub fn is_asked_for(arguments: &[String]) -> bool {
        matches!(
            arguments.first().map(String::as_str),
            Some("status" | "check")
        )
    }

    /// Carries the command out.
    ///
    /// # Errors
    /// When the agent does not tell, or the kernel sends nothing.
    pub fn run(&self) -> Result<Outcome, Failed> {
        match &self.command {
            Command::Status(options) => {
                let status = report::ask_status(&options.subnet_file)?;
                Ok(show_status(&status, options.json))
            }
            Command::Check { options, count } => {
                let status = report::ask_status(&options.subnet_file)?;
                let check = check(&status, *count)?;
                Ok(Outcome {
                    text: text(&check, options.json, Check::to_string),
                    is_well: check.is_well(),
                })
            }
        }
    }
}

fn show_status(status: &Status, in_json: bool) -> Outcome {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    let mut peers = status.peers.iter();
    Outcome {
        text: text(status, in_json, |it| StatusTable(it, now).to_string()),
        is_well: status.failures.is_empty() && peers.all(|it| it.missing.is_empty()),
    }
}

fn check(status: &Status, count: u32) -> Result<Check, kernel::Error> {
    let addresses: BTreeSet<_> = status.peers.iter().flat_map(|it| &it.probes).collect();
    let addresses: Vec<_> = addresses.into_iter().copied().collect();
    let found = source::probe(&addresses, count, status.mtu)?;
    let peer = |peer: &PeerStatus| {
        let probed = probed(peer, &found);
        let Findings {
            answered,
            latency,
            mtu,
        } = found.get(&probed).cloned().unwrap_or_default();
        PeerCheck {
            node: peer.node.clone(),
            subnet: peer.subnet,
            probed,
            sent: count,
            lost: count.saturating_sub(answered),
            latency: latency.map(|it| u64::try_from(it.as_micros()).unwrap_or(u64::MAX)),
            mtu,
        }
    };
    Ok(Check {
        wanted_mtu: status.mtu,
        peers: status.peers.iter().map(peer).collect(),
    })
}

/// The first of a node's addresses that answers, or else the last one.
fn probed(peer: &PeerStatus, found: &BTreeMap<IpAddr, Findings>) -> IpAddr {
    let answers = |address: &&IpAddr| found.get(address).is_some_and(|it| it.answered > 0);
    let first = peer.probes.iter().find(answers).or(peer.probes.last());
    first.copied().unwrap_or(peer.address)
}

fn text<T: Serialize>(value: &T, in_json: bool, table: impl Fn(&T) -> String) -> String {
    if in_json {
        // Of texts and numbers: there is nothing in it that JSON can't say.
        serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
    } else {
        table(value)
    }
}
