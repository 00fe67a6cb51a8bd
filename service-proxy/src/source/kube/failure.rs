//! What can go wrong between us and the API server.

use std::time::Duration;

use kube::core::Status;
use outage::with_causes;

/// Why a list or watch came to nothing, or to an end.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The server can't be reached, or the connection broke.
    #[error("{0}")]
    Connection(String),
    /// An answer or event ended in its middle.
    #[error("the connection ended in the middle of an answer")]
    Cut,
    /// Nothing came for a long time.
    #[error("the server said nothing for {} s", .0.as_secs())]
    Silent(Duration),
    /// The server answered with an error.
    #[error("{} ({} {})", .0.message, .0.code, .0.reason)]
    Refused(Box<Status>),
    /// The server answered with what is no answer.
    #[error("the answer can't be understood: {0}")]
    Garbage(String),
}

/// What failures have in common for a person who reads of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sort {
    /// The connection.
    Connection,
    /// History that the server has no longer.
    Gone,
    /// An HTTP status.
    Status(u16),
    /// Something that is no answer.
    Garbage,
}

// === impl Failure ===

impl Failure {
    /// What it has in common with others.
    pub fn sort(&self) -> Sort {
        match self {
            Self::Connection(_) | Self::Cut | Self::Silent(_) => Sort::Connection,
            Self::Refused(_) if self.is_gone() => Sort::Gone,
            Self::Refused(status) => Sort::Status(status.code),
            Self::Garbage(_) => Sort::Garbage,
        }
    }

    /// Whether the place where a watch should go on is one that the server does not have, not any more (410)
    /// or, if it was restored from a backup, not yet (504 for that reason).
    pub fn is_gone(&self) -> bool {
        let Self::Refused(status) = self else {
            return false;
        };
        let causes = status.details.iter().flat_map(|details| &details.causes);
        status.code == 410
            || causes
                .into_iter()
                .any(|cause| cause.reason == "ResourceVersionTooLarge")
    }

    /// Whether the kind of object, or the way of asking, is unknown to the server.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Refused(status) if status.code == 404)
    }

    /// Whether the server does not know who we are.
    pub fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Refused(status) if status.code == 401)
    }

    /// Whether we may not have what was asked for.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Refused(status) if status.code == 403)
    }

    /// Whether the request is one that the server does not offer. It says 500 to a streaming list when its etcd is
    /// too old for one (3.4.30, 3.5.12 and older).
    pub fn is_not_offered(&self) -> bool {
        matches!(self, Self::Refused(status) if matches!(status.code, 400 | 405 | 406 | 422 | 500))
    }

    /// How long the server asks us to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        let Self::Refused(status) = self else {
            return None;
        };
        let seconds = status.details.as_ref()?.retry_after_seconds;
        Some(Duration::from_secs(seconds.into())).filter(|wait| !wait.is_zero())
    }
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Refused(status),
            kube::Error::Service(error) => Self::Connection(with_causes(&*error)),
            other => Self::Connection(with_causes(&other)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn refused(status: serde_json::Value) -> Failure {
        Failure::Refused(serde_json::from_value(status).unwrap())
    }

    #[test]
    fn what_is_gone_and_what_is_not_offered() {
        let too_large =
            json!({"causes": [{"reason": "ResourceVersionTooLarge", "message": "", "field": ""}]});
        for (status, gone, offered) in [
            (json!({"code": 410, "reason": "Expired"}), true, true),
            (json!({"code": 410, "reason": "Gone"}), true, true),
            (json!({"code": 504, "details": too_large}), true, true),
            (json!({"code": 504}), false, true),
            (json!({"code": 422}), false, false),
            (json!({"code": 400}), false, false),
            (json!({"code": 500}), false, false),
            (json!({"code": 403}), false, true),
        ] {
            let failure = refused(status.clone());
            assert_eq!(
                (failure.is_gone(), !failure.is_not_offered()),
                (gone, offered),
                "{status}"
            );
        }
        assert!(!Failure::Cut.is_gone());
    }

    #[test]
    fn waits_as_long_as_it_is_asked_to() {
        let busy = refused(json!({"code": 429, "details": {"retryAfterSeconds": 3}}));
        assert_eq!(busy.retry_after(), Some(Duration::from_secs(3)));
        assert_eq!(refused(json!({"code": 500})).retry_after(), None);
    }
}
