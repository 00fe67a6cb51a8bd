//! Keys, which are texts of 44 characters of base64 everywhere but in the kernel.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD};

/// A public key: who a peer is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey(pub [u8; 32]);

/// A private or a preshared key. It is not printed by accident.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretKey(pub [u8; 32]);

/// A text that is not a key. The text itself may be a secret, and is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a WireGuard key: want 32 bytes in base64, 44 characters")]
pub struct InvalidKey;

// === impl PublicKey ===

impl FromStr for PublicKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        decode(text).map(Self)
    }
}

impl TryFrom<String> for PublicKey {
    type Error = InvalidKey;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

// === impl SecretKey ===

impl SecretKey {
    /// A private key out of random bytes: clamped as RFC 7748, section 5, has it, and as the kernel does
    /// with every private key that it is given.
    pub const fn clamped(mut bytes: [u8; 32]) -> Self {
        bytes[0] &= 0xf8;
        bytes[31] = bytes[31] & 0x7f | 0x40;
        Self(bytes)
    }

    /// The key as text, for the file that keeps it.
    pub fn reveal(&self) -> String {
        STANDARD.encode(self.0)
    }
}

impl FromStr for SecretKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        decode(text).map(Self)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(hidden)")
    }
}

fn decode(text: &str) -> Result<[u8; 32], InvalidKey> {
    let bytes = STANDARD.decode(text).map_err(|_| InvalidKey)?;
    bytes.try_into().map_err(|_| InvalidKey)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_others_are_refused() {
        let text = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
        assert_eq!(text.parse::<PublicKey>().unwrap().to_string(), text);
        let secret: SecretKey = text.parse().unwrap();
        assert_eq!(secret.reveal(), text);
        assert_eq!(format!("{secret:?}"), "SecretKey(hidden)");
        let clamped = SecretKey::clamped([0xff; 32]).0;
        assert_eq!((clamped[0], clamped[1], clamped[31]), (0xf8, 0xff, 0x7f));
        assert_eq!(SecretKey::clamped(clamped).0, clamped);
        for text in ["", "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg", "eA=="] {
            assert_eq!(text.parse::<PublicKey>(), Err(InvalidKey));
        }
    }
}
