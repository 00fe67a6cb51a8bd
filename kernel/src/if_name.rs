//! Names of network interfaces.

use std::{fmt, str::FromStr};

/// A network interface name that the kernel accepts: 1 to 15 bytes, no `/`, `:` or white space,
/// neither `.` nor `..` (`dev_valid_name` in the kernel's `net/core/dev.c`).
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct IfName(String);

/// Why a text is not an interface name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIfName {
    /// No text at all.
    #[error("interface name is empty")]
    Empty,
    /// More than 15 bytes.
    #[error("interface name {0:?} is too long: at most 15 bytes")]
    TooLong(String),
    /// `.` or `..`.
    #[error("interface name is . or ..")]
    Dots,
    /// Contains `/`, `:` or white space.
    #[error("interface name {0:?} contains / or : or whitespace characters")]
    Characters(String),
}

// === impl IfName ===

impl IfName {
    /// Longest name in bytes (`IFNAMSIZ` less the closing zero).
    pub const MAX_LEN: usize = 15;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IfName {
    type Err = InvalidIfName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(InvalidIfName::Empty);
        }
        if text.len() > Self::MAX_LEN {
            return Err(InvalidIfName::TooLong(text.to_owned()));
        }
        if text == "." || text == ".." {
            return Err(InvalidIfName::Dots);
        }
        if text
            .bytes()
            .any(|b| matches!(b, b'/' | b':' | 0) || b.is_ascii_whitespace() || b == 0x0b)
        {
            return Err(InvalidIfName::Characters(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for IfName {
    type Error = InvalidIfName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<IfName> for String {
    fn from(name: IfName) -> Self {
        name.0
    }
}

impl AsRef<str> for IfName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_the_kernel_accepts() {
        for name in ["lo", "flannel.1", "veth12345678901", "ä"] {
            assert_eq!(
                name.parse::<IfName>().map(String::from),
                Ok(name.to_owned())
            );
        }
    }

    #[test]
    fn refuses_what_the_kernel_refuses() {
        for (name, error) in [
            ("", InvalidIfName::Empty),
            (
                "sixteen-bytes-xx",
                InvalidIfName::TooLong("sixteen-bytes-xx".into()),
            ),
            (".", InvalidIfName::Dots),
            ("..", InvalidIfName::Dots),
            ("a/b", InvalidIfName::Characters("a/b".into())),
            ("a:b", InvalidIfName::Characters("a:b".into())),
            ("a b", InvalidIfName::Characters("a b".into())),
        ] {
            assert_eq!(name.parse::<IfName>(), Err(error), "{name:?}");
        }
    }
}
