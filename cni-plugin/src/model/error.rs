//! The error object of the CNI specification, the one error that leaves a plugin.

use std::io;

/// What went wrong, for the runtime by code and for a person by text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}{}{details}", if details.is_empty() { "" } else { "; " })]
pub struct Error {
    /// What kind of failure it is.
    pub code: Code,
    /// What was attempted, on what, and why it failed (`msg`).
    pub message: String,
    /// More of it; may be empty (`details`).
    pub details: String,
}

/// The codes of the specification (CNI 1.1.0, "Error").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The plugin does not support the configuration's version.
    IncompatibleVersion,
    /// A `CNI_*` variable is missing or wrong.
    InvalidEnvironment,
    /// A file or stream can't be read or written.
    Io,
    /// The configuration is no JSON of the expected shape.
    Decode,
    /// The configuration makes no sense or wants something that is not there.
    InvalidConfig,
    /// `CNI_NETNS` is the namespace of the plugin itself.
    InvalidNetns,
    /// The same call may succeed a little later.
    TryAgainLater,
    /// STATUS: the plugin can't serve an ADD now.
    NotAvailable,
    /// Anything else; libcni gives it to every error without a code.
    Internal,
    /// What a delegate answered.
    Foreign(u32),
}

// === impl Code ===

impl Code {
    /// The number by which runtimes know it.
    pub const fn number(self) -> u32 {
        match self {
            Self::IncompatibleVersion => 1,
            Self::InvalidEnvironment => 4,
            Self::Io => 5,
            Self::Decode => 6,
            Self::InvalidConfig => 7,
            Self::InvalidNetns => 8,
            Self::TryAgainLater => 11,
            Self::NotAvailable => 50,
            Self::Internal => 999,
            Self::Foreign(number) => number,
        }
    }
}

// === impl Error ===

impl Error {
    /// An error without details.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: String::new(),
        }
    }

    /// The same error with details.
    pub fn with_details(self, details: impl Into<String>) -> Self {
        Self {
            details: details.into(),
            ..self
        }
    }

    /// The same error with what was attempted put before its text.
    pub fn during(self, attempted: &str) -> Self {
        Self {
            message: format!("{attempted}: {}", self.message),
            ..self
        }
    }

    /// A configuration that makes no sense.
    pub fn config(error: impl ToString) -> Self {
        Self::new(Code::InvalidConfig, error.to_string())
    }

    /// A failed system call on a file; `attempted` names the call and the file.
    pub fn io(attempted: String, error: &io::Error) -> Self {
        Self::new(Code::Io, format!("{attempted}: {}", os_text(error)))
    }
}

impl From<kernel::Error> for Error {
    fn from(error: kernel::Error) -> Self {
        Self::new(Code::Internal, error.to_string())
    }
}

/// The text of an operating system error as Go prints it (`no such file or directory`): scripts and
/// people search for the reference plugins' texts.
pub(super) fn os_text(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => {
            let text = nix::errno::Errno::from_raw(number).desc();
            let first = text.chars().take(1).flat_map(char::to_lowercase);
            first.chain(text.chars().skip(1)).collect()
        }
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operating_system_errors_read_as_in_go() {
        let error = io::Error::from_raw_os_error(nix::libc::ENOENT);
        let error = Error::io("open /run/flannel/subnet.env".into(), &error);
        assert_eq!(
            error.to_string(),
            "open /run/flannel/subnet.env: no such file or directory"
        );
    }

    #[test]
    fn details_follow_the_message() {
        let error = Error::new(Code::Internal, "a").with_details("b");
        assert_eq!(error.during("add").to_string(), "add: a; b");
    }
}
