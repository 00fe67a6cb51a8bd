//! VXLAN network identifiers.

use std::fmt;

/// A VXLAN network identifier: 24 bits (RFC 7348, section 5).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "u32", into = "u32")]
pub struct Vni(u32);

/// A number that does not fit a VXLAN network identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("VNI {0} is out of range: want 0 to 16777215")]
pub struct InvalidVni(pub u32);

// === impl Vni ===

impl TryFrom<u32> for Vni {
    type Error = InvalidVni;

    fn try_from(number: u32) -> Result<Self, Self::Error> {
        if number < 1 << 24 {
            Ok(Self(number))
        } else {
            Err(InvalidVni(number))
        }
    }
}

impl From<Vni> for u32 {
    fn from(vni: Vni) -> Self {
        vni.0
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
