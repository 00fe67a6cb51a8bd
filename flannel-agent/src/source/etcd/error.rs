//! How a request to etcd fails.

use std::{error, fmt};

/// What was asked of which servers, and what came of it. Every such error may pass: the caller tries
/// again.
#[derive(Debug, thiserror::Error)]
#[error("{attempted} at etcd {endpoints}: {cause}")]
pub struct Error {
    /// The request, as the `etcdctl` command that does the same.
    pub(super) attempted: String,
    /// The servers.
    pub(super) endpoints: String,
    /// Why it failed.
    pub(super) cause: Cause,
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
            Self::WatchEnded(reason) if reason.is_empty() => f.write_str("the watch ended"),
            Self::WatchEnded(reason) => write!(f, "the watch ended: {reason}"),
        }
    }
}
