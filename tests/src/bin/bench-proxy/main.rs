//! Measures the service proxy, and kube-proxy beside it: real packets of a client's pod, the stand-in of the API
//! server, and clusters of several sizes that are loaded, changed and unloaded.
//!
//! Twenty Services are answered by a real pod, the last by name among them; the endpoints of all others are
//! nowhere. Each proxy has a node of its own, one after the other.

mod objects;
mod restore;
mod run;
mod site;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use lab::Programs;

use crate::{
    objects::Size,
    run::{Contender, Figures, Mode, Step, measure},
};

/// Measures service proxies, in network namespaces of its own.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Services x endpoints of each; may be given several times.
    #[arg(long, default_values = ["10000x10", "30000x2", "1000x250"])]
    size: Vec<Size>,
    /// The service proxy [default: that of the directory of this program]
    #[arg(long)]
    service_proxy: Option<PathBuf>,
    /// kube-proxy, to be measured too.
    #[arg(long)]
    kube_proxy: Option<PathBuf>,
    /// An option of the service proxy, such as --ipvs-filter=ipset; may be given several times.
    #[arg(long, allow_hyphen_values = true)]
    option: Vec<String>,
    /// In the modes of iptables, measure its programs too: one chain among kube-proxy's rules.
    #[arg(long)]
    restore: bool,
    /// What Services are turned into.
    #[arg(long, default_value = "nftables")]
    mode: Mode,
    /// How many changes in all; the figures after the first tenth are printed too.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(10..))]
    changes: u32,
}

type Row = (Step, String, fn(&Figures) -> String);

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let ours = match &arguments.service_proxy {
        Some(path) => path.clone(),
        None => Programs::find()?.service_proxy(),
    };
    let mode = arguments.mode;
    ensure!(
        !arguments.restore || mode.backend().is_some(),
        "--restore is for the modes of iptables: give --mode iptables-nft or iptables-legacy"
    );
    let tweed = Contender {
        name: "Tweed",
        program: &ours,
        mode,
        ours: true,
        options: &arguments.option,
    };
    let mut contenders = vec![tweed.clone()];
    contenders.extend(arguments.kube_proxy.as_deref().map(|program| Contender {
        name: "kube-proxy",
        program,
        mode,
        ours: false,
        options: &[],
    }));
    let mut columns = Vec::new();
    for size in &arguments.size {
        for contender in &contenders {
            let column = format!("{size} {}", contender.name);
            let changes = arguments.changes;
            let figures = measure(contender, *size, columns.len(), changes, |step, figures| {
                tell(&column, changes, step, figures);
            });
            let figures =
                figures.with_context(|| format!("{} at {size}", contender.program.display()))?;
            columns.push((column, figures));
        }
    }
    print(&columns, arguments.changes);
    if let (true, Some(backend)) = (arguments.restore, mode.backend()) {
        let options = [&arguments.option[..], &["--iptables-dispatch=flat".into()]].concat();
        let classic = Contender {
            options: &options,
            ..tweed
        };
        for (number, size) in arguments.size.iter().enumerate() {
            let took = restore::measure(&classic, backend, *size, columns.len() + number)?;
            println!(
                "{size}: one chain by iptables-{backend}-restore --noflush, median / longest: {} / {}",
                median(&took),
                longest(&took)
            );
        }
    }
    Ok(())
}

/// Prints what a step has measured as soon as it is there; the table comes at the end.
fn tell(column: &str, changes: u32, step: Step, figures: &Figures) {
    for (_, name, cell) in rows(changes).iter().filter(|row| row.0 == step) {
        eprintln!("{column}: {name}: {}", cell(figures));
    }
}

fn print(columns: &[(String, Figures)], changes: u32) {
    let names: Vec<_> = columns.iter().map(|(name, _)| name.as_str()).collect();
    println!("| | {} |", names.join(" | "));
    println!("|---{}|", "|---".repeat(names.len()));
    for (_, name, cell) in rows(changes) {
        let cells: Vec<_> = columns.iter().map(|(_, figures)| cell(figures)).collect();
        println!("| {name} | {} |", cells.join(" | "));
    }
}

fn rows(changes: u32) -> Vec<Row> {
    vec![
        (
            Step::Changes,
            "P1, P4, P5: an endpoint changes until a client reaches the new one, median / longest"
                .into(),
            |it| format!("{} / {}", median(&it.changes), longest(&it.changes)),
        ),
        (
            Step::Start,
            "P2, P6: start until the last Service answers".into(),
            |it| milliseconds(it.start),
        ),
        (
            Step::Changes,
            "processor time of the start, and of one such change".into(),
            |it| {
                let [start, change] = it.processor.map(milliseconds);
                format!("{start}, {change}")
            },
        ),
        (Step::Start, "P3: resident after the start".into(), |it| {
            mebibytes(it.memory)
        }),
        (
            Step::FewOthers,
            format!("P3: after {} changes", changes / 10),
            |it| mebibytes(it.thousand.1),
        ),
        (Step::Others, format!("P3: after {changes} changes"), |it| {
            mebibytes(it.ten_thousand.1)
        }),
        (Step::Others, "the most at any time".into(), |it| {
            mebibytes(it.most_memory)
        }),
        (
            Step::FewOthers,
            format!("{} changes of other Services, all in", changes / 10),
            |it| milliseconds(it.thousand.0),
        ),
        (
            Step::Connections,
            "P8: a connection to the last Service, median, and to its pod".into(),
            |it| {
                let [service, pod] = &it.connects;
                format!("{}, {}", median(service), median(pod))
            },
        ),
        (
            Step::Unload,
            "everything deleted until nothing is served".into(),
            |it| milliseconds(it.unload),
        ),
    ]
}

fn median(sorted: &[Duration]) -> String {
    milliseconds(sorted.get(sorted.len() / 2).copied().unwrap_or_default())
}

fn longest(sorted: &[Duration]) -> String {
    milliseconds(sorted.last().copied().unwrap_or_default())
}

fn milliseconds(duration: Duration) -> String {
    let milliseconds = duration.as_secs_f64() * 1e3;
    if milliseconds < 1.0 {
        format!("{milliseconds:.3} ms")
    } else {
        format!("{milliseconds:.1} ms")
    }
}

fn mebibytes(bytes: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "printed with one digit")]
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    format!("{mebibytes:.1} MiB")
}
