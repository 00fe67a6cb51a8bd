//! Pings, by the program that people use.

use std::{
    io::Read,
    net::IpAddr,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::Host;

/// How many echo requests were sent and answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PingSummary {
    /// Echo requests sent.
    pub sent: u64,
    /// Echo requests answered.
    pub received: u64,
}

/// A running `ping`.
#[derive(Debug)]
pub struct Ping(Child);

/// Sends one echo request; whether it was answered within a second.
pub fn ping(from: &Host, to: IpAddr) -> Result<bool> {
    let output = from.output(
        Command::new("ping")
            .args(["-n", "-c", "1", "-W", "1"])
            .arg(to.to_string()),
    )?;
    Ok(output.status.success())
}

/// Starts sending an echo request every 10 milliseconds.
pub fn start_ping(from: &Host, to: IpAddr) -> Result<Ping> {
    let mut command = Command::new("ping");
    command
        .args(["-n", "-q", "-i", "0.01", "-W", "1"])
        .arg(to.to_string())
        .stdout(Stdio::piped());
    Ok(Ping(from.spawn(&mut command)?))
}

// === impl Ping ===

impl Ping {
    /// Stops it as a person does, and reads its summary.
    pub fn stop(mut self) -> Result<PingSummary> {
        let process = nix::unistd::Pid::from_raw(self.0.id().try_into()?);
        nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGINT)?;
        let mut text = String::new();
        self.0
            .stdout
            .take()
            .context("ping has no output")?
            .read_to_string(&mut text)?;
        self.0.wait()?;
        parse(&text).with_context(|| format!("unexpected output of ping: {text}"))
    }
}

impl Drop for Ping {
    fn drop(&mut self) {
        // Both fail where it was stopped already.
        if self.0.kill().is_ok() {
            drop(self.0.wait());
        }
    }
}

/// Reads `3 packets transmitted, 3 received, ...`.
fn parse(text: &str) -> Result<PingSummary> {
    let line = text
        .lines()
        .find(|line| line.contains("packets transmitted"))
        .context("no summary")?;
    let mut numbers = line
        .split(',')
        .map(|part| part.trim().split(' ').next().unwrap_or_default().parse());
    let (Some(sent), Some(received)) = (numbers.next(), numbers.next()) else {
        anyhow::bail!("no numbers in {line:?}");
    };
    let summary = PingSummary {
        sent: sent?,
        received: received?,
    };
    ensure!(summary.sent > 0, "nothing was sent");
    Ok(summary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_summary_that_ping_prints() {
        let text = "PING 10.0.0.1 (10.0.0.1) 56(84) bytes of data.\n\n--- 10.0.0.1 ping statistics ---\n\
            7 packets transmitted, 6 received, +1 errors, 14.3% packet loss, time 60ms\n";
        assert_eq!(
            parse(text).unwrap(),
            PingSummary {
                sent: 7,
                received: 6
            }
        );
        assert!(parse("nothing").is_err());
    }
}
