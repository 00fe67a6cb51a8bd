//! What can be written as a value but not told to the kernel.

use std::io;

use super::{Key, Value};
use crate::netlink;

/// Why a command can't be put into a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The field can't be compared that way, or not with such a value.
    #[error("`{0}` compares a field with what it can't be compared with")]
    Comparison(String),
    /// The table sees packets of several families, and this is for those of one.
    #[error("`{0}` can only be in a table of one address family, `ip` or `ip6`")]
    Family(String),
    /// More fields are concatenated than fit the 64 bytes of registers.
    #[error("`{0}` concatenates more fields than fit 64 bytes")]
    Registers(String),
    /// A network stands where only a single value can.
    #[error("network {0} can only be the one field of a key of an interval set")]
    Network(Value),
    /// A key of an interval set is not a network.
    #[error(
        "key {0:?} of an interval set is not a network: write a single address with its prefix"
    )]
    SingleInInterval(Key),
    /// A comment is too long or has characters that nft can't print back.
    #[error(
        "comment {0:?} is longer than 128 bytes or contains a quotation mark or control character"
    )]
    Comment(String),
    /// Something does not fit an attribute of 64 KiB.
    #[error("does not fit an attribute of 64 KiB")]
    TooLong,
}

// === impl Invalid ===

impl From<Invalid> for netlink::Error {
    fn from(invalid: Invalid) -> Self {
        Self::Io(io::Error::new(io::ErrorKind::InvalidInput, invalid))
    }
}
