//! How a run of an iptables program fails.

use std::io;

/// A [`Result`](std::result::Result) of a run of an iptables program.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a run of an iptables program failed. `command` is what was run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program is not there.
    #[error("{command}: no such program in PATH; install the package iptables")]
    Missing {
        /// What was to be run.
        command: String,
    },
    /// The program could not be run.
    #[error("{command}: {source}")]
    NotRun {
        /// What was to be run.
        command: String,
        /// Why not.
        source: io::Error,
    },
    /// Someone else holds the lock of the tables (exit code 4): try again.
    #[error("{command}: the tables are locked by another program, try again: {stderr}")]
    Busy {
        /// What was run.
        command: String,
        /// The program's own words.
        stderr: String,
    },
    /// The program or the kernel refused it; nothing of that table was changed.
    #[error("{command}: {stderr}{}", line.as_ref().map(|it| format!(" (that line is: {it})")).unwrap_or_default())]
    Refused {
        /// What was run.
        command: String,
        /// The program's own words.
        stderr: String,
        /// The refused line of the input, where the program named its number.
        line: Option<String>,
    },
    /// The kernel refused it, without a program in between.
    #[error(transparent)]
    Kernel(#[from] crate::Error),
    /// The program printed what can't be understood.
    #[error("{command}: unexpected output: {line}")]
    Malformed {
        /// What was run.
        command: String,
        /// The line.
        line: String,
    },
}
