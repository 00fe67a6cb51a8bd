//! Running the programs.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    process::{Command, Output, Stdio},
    thread,
};

use super::{Backend, Error, Result, Table};
use crate::Family;

/// Exit code when the lock of the tables could not be had in time (`RESOURCE_PROBLEM` of xtables).
const EXIT_BUSY: i32 = 4;
/// How long to wait for that lock, in seconds.
const WAIT: &str = "--wait=5";

/// The programs of one family and one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Iptables {
    family: Family,
    backend: Backend,
    /// Put between the program's name and what it does: `-nft`, `-legacy`, or nothing.
    infix: &'static str,
}

// === impl Iptables ===

impl Iptables {
    /// Finds the programs of a family and a backend: those that are named after the backend, or the
    /// plain ones where they say that they are of that backend.
    ///
    /// # Errors
    /// If there are none in PATH.
    pub fn find(family: Family, backend: Backend) -> Result<Self> {
        let named = Self {
            family,
            backend,
            infix: backend.infix(),
        };
        match named.run("", &["--version"], "") {
            Err(Error::Missing { command }) => {
                let plain = Self { infix: "", ..named };
                match plain.run("", &["--version"], "") {
                    Ok(version) if Backend::of_version(&version) == backend => Ok(plain),
                    Err(Error::Missing { .. }) | Ok(_) => Err(Error::Missing { command }),
                    Err(error) => Err(error),
                }
            }
            Err(error) => Err(error),
            Ok(_) => Ok(named),
        }
    }

    /// Finds the plain programs of a family, those that everybody on the node runs who names no backend,
    /// whichever that is.
    ///
    /// # Errors
    /// If there are none in PATH.
    pub fn of_node(family: Family) -> Result<Self> {
        let plain = Self {
            family,
            backend: Backend::Legacy,
            infix: "",
        };
        let version = plain.run("", &["--version"], "")?;
        Ok(Self {
            backend: Backend::of_version(&version),
            ..plain
        })
    }

    /// The family.
    pub fn family(&self) -> Family {
        self.family
    }

    /// The backend.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Carries out a text as `iptables-save` prints it, each table at once or not at all. Chains that it
    /// declares are emptied first, others stay as they are (`--noflush`).
    pub fn restore(&self, text: &str) -> Result<()> {
        self.run("-restore", &["--noflush", WAIT], text).map(drop)
    }

    /// Reads a table; without chains if it is not there.
    pub fn save(&self, table: &str) -> Result<Table> {
        Table::parse(&self.save_text(table)?).map_err(|line| Error::Malformed {
            command: self.command("-save", &["-t", table]),
            line,
        })
    }

    /// Reads those of some tables that are there, by name; makes none.
    pub fn save_tables(&self, names: &[&str]) -> Result<BTreeMap<String, Table>> {
        Table::parse_all(&self.save_all()?, names).map_err(|line| Error::Malformed {
            command: self.command("-save", &[]),
            line,
        })
    }

    /// Whether a table has a chain.
    ///
    /// # Errors
    /// If the tables can't be asked; a table that is missing has no chain.
    pub fn has_chain(&self, table: &str, chain: &str) -> Result<bool> {
        match self.run("", &[WAIT, "-t", table, "-S", chain], "") {
            Ok(_) => Ok(true),
            // It is not told apart from other refusals but by words that change from version to version.
            Err(Error::Refused { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads a table, as text.
    pub(super) fn save_text(&self, table: &str) -> Result<String> {
        self.run("-save", &["-t", table], "")
    }

    /// Reads every table that is there, as text.
    pub(super) fn save_all(&self) -> Result<String> {
        self.run("-save", &[], "")
    }

    fn run(&self, what: &str, arguments: &[&str], input: &str) -> Result<String> {
        let command = || self.command(what, arguments);
        let output = run(&self.program(what), arguments, input).map_err(|source| {
            if source.kind() == io::ErrorKind::NotFound {
                Error::Missing { command: command() }
            } else {
                let command = command();
                Error::NotRun { command, source }
            }
        })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let stderr = words(&output);
        // The nf_tables programs have the same exit code for refusals.
        let locked = || stderr.contains("lock") || stderr.contains("emporarily unavailable");
        Err(if output.status.code() == Some(EXIT_BUSY) && locked() {
            let command = command();
            Error::Busy { command, stderr }
        } else {
            Error::Refused {
                command: command(),
                line: refused_line(&stderr, input),
                stderr,
            }
        })
    }

    fn program(&self, what: &str) -> String {
        let name = match self.family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        format!("{name}{}{what}", self.infix)
    }

    fn command(&self, what: &str, arguments: &[&str]) -> String {
        let mut command = self.program(what);
        for argument in arguments {
            command.push(' ');
            command.push_str(argument);
        }
        command
    }
}

/// Runs a program with an input; what it prints is read meanwhile.
fn run(program: &str, arguments: &[&str], input: &str) -> io::Result<Output> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let stdin = child.stdin.take();
    thread::scope(|scope| {
        // A program that refuses its first lines does not read the rest; its exit code says so.
        scope.spawn(|| stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
        child.wait_with_output()
    })
}

/// What a program that failed said, on one line.
fn words(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    if lines.is_empty() {
        return output.status.to_string();
    }
    lines.join("; ")
}

/// The line of the input that a message is about (`line 3 failed`, `line 3: CHAIN_ADD failed`), if it
/// is a rule or a chain: the nf_tables programs find some mistakes only when they come to the end.
fn refused_line(stderr: &str, input: &str) -> Option<String> {
    let digits = stderr.split_once("line")?.1.trim_start_matches([':', ' ']);
    let end = digits.find(|c: char| !c.is_ascii_digit());
    let number: usize = digits[..end.unwrap_or(digits.len())].parse().ok()?;
    let line = input.lines().nth(number.checked_sub(1)?)?;
    line.starts_with(['-', ':']).then(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refused_line_is_found_in_the_input() {
        let input = "*nat\n-A X -j Y\nCOMMIT\n";
        for (stderr, line) in [
            ("iptables-restore: line 2 failed", Some("-A X -j Y")),
            (
                "Error occurred at line: 2; Try `iptables-restore -h'",
                Some("-A X -j Y"),
            ),
            ("iptables-nft-restore v1.8.9: line 9: RULE_ADD failed", None),
            ("Error occurred at line: 3", None),
            ("no such table", None),
            ("line 0 failed", None),
        ] {
            assert_eq!(refused_line(stderr, input).as_deref(), line, "{stderr}");
        }
    }
}
