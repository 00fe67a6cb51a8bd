//! How a netlink exchange fails.

use std::{fmt, io};

use nix::errno::Errno;

/// A [`Result`](std::result::Result) of a netlink exchange.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an exchange with the kernel failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused the request.
    #[error("{}", Refusal { errno: *errno, message: message.as_deref() })]
    Refused {
        /// The error number of the answer.
        errno: Errno,
        /// The kernel's own words (extended acknowledgement), where it had any.
        message: Option<String>,
    },
    /// The kernel refused the request with a number that means something to the subsystem alone.
    #[error("refused with number {0}")]
    Subsystem(i32),
    /// A system call failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The kernel's answer can't be understood.
    #[error("unexpected answer from the kernel: {0}")]
    Malformed(String),
    /// The kernel's table changed during each of several attempts to read it.
    #[error("the kernel's table kept changing while it was read; try again")]
    KeepsChanging,
}

/// Prints a refusal with both the error number's text and the kernel's message.
struct Refusal<'a> {
    errno: Errno,
    message: Option<&'a str>,
}

// === impl Error ===

impl Error {
    /// The error number behind it, if there is one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            Self::Io(error) => error.raw_os_error().map(Errno::from_raw),
            Self::Subsystem(_) | Self::Malformed(_) | Self::KeepsChanging => None,
        }
    }
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

// === impl Refusal ===

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.errno.desc(), self.errno)?;
        match self.message {
            Some(message) => write!(f, ": {message}"),
            None => Ok(()),
        }
    }
}
