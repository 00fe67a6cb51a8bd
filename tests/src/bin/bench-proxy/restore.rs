//! What the programs of iptables take for one chain, among all rules that kube-proxy would have written: the floor
//! of every proxy that runs them.

use std::{
    io::Write,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::{
    objects::{Size, TARGET},
    run::{CHANGES, Contender, Run},
    site::Pod,
};

/// Lets a proxy write kube-proxy's rules and ends it; then changes the last Service's endpoint by the programs of a
/// backend. Answers with how long these run, in order of length.
pub fn measure(
    contender: &Contender<'_>,
    backend: &str,
    size: Size,
    number: usize,
) -> Result<Vec<Duration>> {
    let (mut run, _) = Run::start(contender, size, number)?;
    run.end_proxy()?;
    let mut pod = Pod::First;
    let mut chain = chain_of(&run, backend, size)?;
    let mut took = Vec::new();
    for _ in 0..=CHANGES {
        let other = pod.other();
        chain = chain.replace(&pod.address().to_string(), &other.address().to_string());
        pod = other;
        let before = Instant::now();
        restore(&run, backend, &chain)?;
        took.push(before.elapsed());
        run.wait_for(size.last(), pod, before)?;
    }
    took.sort_unstable();
    Ok(took)
}

/// The text that writes the chain of the last Service's endpoint anew.
fn chain_of(run: &Run, backend: &str, size: Size) -> Result<String> {
    let mut command = Command::new(format!("iptables-{backend}-save"));
    command.args(["-t", "nat"]);
    let output = run.on_node(|| command.output())??;
    ensure!(
        output.status.success(),
        "{command:?}: {} (among very many rules its stack is too small: ulimit -s unlimited): {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let saved = String::from_utf8(output.stdout)?;
    let name = crate::objects::name(size.last());
    let to = format!("--to-destination {}:{TARGET}", Pod::First.address());
    let translates = |line: &&str| line.contains(&name) && line.contains(&to);
    let rule = saved.lines().find(translates);
    let chain = rule.and_then(|rule| rule.split(' ').nth(1));
    let chain = chain.with_context(|| format!("no rule of {name} has {to}"))?;
    let append = format!("-A {chain} ");
    let rules = saved.lines().filter(|line| line.starts_with(&append));
    let rules: Vec<_> = rules.collect();
    Ok(format!(
        "*nat\n:{chain} - [0:0]\n{}\nCOMMIT\n",
        rules.join("\n")
    ))
}

fn restore(run: &Run, backend: &str, text: &str) -> Result<()> {
    let mut command = Command::new(format!("iptables-{backend}-restore"));
    command.arg("--noflush").stdin(Stdio::piped());
    let mut child = run.on_node(|| command.spawn())??;
    let mut input = child.stdin.take().context("no input")?;
    input.write_all(text.as_bytes())?;
    drop(input);
    let status = child.wait()?;
    ensure!(status.success(), "iptables-{backend}-restore: {status}");
    Ok(())
}
