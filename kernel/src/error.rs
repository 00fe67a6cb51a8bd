//! The one error of this crate: what was attempted, on which object, and the kernel's own words.

use crate::netlink;

/// A [`Result`](std::result::Result) whose error names what was attempted.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What was attempted on which object, and why the kernel refused it.
///
/// `attempted` reads like the command a person would have typed (`ip route replace 10.5.1.0/24 via ...`),
/// so that it can be tried by hand.
#[derive(Debug, thiserror::Error)]
#[error("{attempted}: {cause}")]
pub struct Error {
    attempted: String,
    #[source]
    cause: netlink::Error,
}

// === impl Error ===

impl Error {
    /// Names what was attempted when `cause` happened.
    pub fn new(attempted: impl Into<String>, cause: impl Into<netlink::Error>) -> Self {
        Self {
            attempted: attempted.into(),
            cause: cause.into(),
        }
    }

    /// The error number the kernel answered with, if it was the kernel that refused.
    pub fn errno(&self) -> Option<nix::errno::Errno> {
        self.cause.errno()
    }

    /// Whether the object that was to be changed or read does not exist.
    pub fn is_not_found(&self) -> bool {
        use nix::errno::Errno;
        matches!(
            self.errno(),
            Some(Errno::ENOENT | Errno::ENODEV | Errno::ESRCH | Errno::EADDRNOTAVAIL)
        )
    }

    /// Whether the object that was to be made exists already.
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(nix::errno::Errno::EEXIST)
    }

    /// Whether the rule set of nftables was changed by someone else since it was read: read it again.
    pub fn is_stale(&self) -> bool {
        self.errno() == Some(nix::errno::Errno::ERESTART)
    }
}
