//! What goes wrong between the agent and the API server.

use std::fmt;

/// A request that failed.
#[derive(Debug, thiserror::Error)]
#[error("can't {attempted}: {cause}")]
pub struct Error {
    attempted: String,
    cause: String,
    is_expired: bool,
}

// === impl Error ===

impl Error {
    pub(super) fn new(attempted: impl fmt::Display, error: &kube::Error) -> Self {
        Self {
            attempted: attempted.to_string(),
            cause: text(error),
            is_expired: matches!(error, kube::Error::Api(status) if is_expired(status)),
        }
    }

    pub(super) fn status(attempted: impl fmt::Display, status: &kube::core::Status) -> Self {
        Self {
            attempted: attempted.to_string(),
            cause: status_text(status),
            is_expired: is_expired(status),
        }
    }

    pub(super) fn no_answer(attempted: impl fmt::Display) -> Self {
        Self {
            attempted: attempted.to_string(),
            cause: "the API server does not answer".into(),
            is_expired: false,
        }
    }

    /// Whether the server does not know what has happened since the revision that was asked for: 410 Gone.
    pub const fn is_expired(&self) -> bool {
        self.is_expired
    }
}

fn is_expired(status: &kube::core::Status) -> bool {
    status.code == 410
}

fn status_text(status: &kube::core::Status) -> String {
    format!("{} ({} {})", status.message, status.code, status.reason)
}

/// The server's own words, or what each layer of the client has to say.
fn text(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return status_text(status);
    }
    outage::with_causes(error)
}
