//! How a request to etcd fails.

use std::{error, fmt};

/// What was asked of which servers, and what came of it. Every such error may pass: the caller tries
/// again.
#[derive(Debug, thiserror::Error)]
#[error("{attempted} at etcd {}", self.failures.join(", at "))]
pub struct Error {
    /// The request, as the `etcdctl` command that does the same.
    attempted: String,
    /// The servers with what they, or the way to them, had to say.
    failures: Vec<String>,
}

/// Why a request failed.
#[derive(Debug)]
pub(super) enum Cause {
    /// etcd, or the way to it, says so.
    Etcd(etcd_client::Error),
    /// No answer in time.
    NoAnswer,
    /// The watch was ended by etcd.
    WatchEnded(String),
}

// === impl Error ===

impl Error {
    pub(super) fn new(attempted: &str, endpoint: &str, cause: &Cause) -> Self {
        Self {
            attempted: attempted.to_owned(),
            failures: vec![format!("{endpoint}: {cause}")],
        }
    }

    pub(super) fn no_server() -> Self {
        Self {
            attempted: "connect".into(),
            failures: vec!["no endpoint is given".into()],
        }
    }

    /// The same, for a request that other servers were asked in vain before.
    pub(super) fn after(mut self, others: Option<Self>) -> Self {
        if let Some(others) = others {
            self.failures.splice(..0, others.failures);
        }
        self
    }
}

// === impl Cause ===

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Etcd(etcd_client::Error::GRpcStatus(status)) => {
                f.write_str(status.message())?;
                // The kernel's words are at the far end of the chain.
                let mut source = error::Error::source(status);
                while let Some(error) = source.and_then(error::Error::source) {
                    source = Some(error);
                }
                source.map_or(Ok(()), |error| write!(f, ": {error}"))
            }
            Self::Etcd(error) => error.fmt(f),
            Self::NoAnswer => f.write_str("no answer in time"),
            Self::WatchEnded(reason) => write!(f, "the watch ended: {reason}"),
        }
    }
}
