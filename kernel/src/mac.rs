//! Ethernet addresses.

use std::{fmt, str::FromStr};

/// A 48-bit Ethernet address; its text form is six colon-separated pairs of lower-case hex digits.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

/// A text that is not an Ethernet address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a MAC address: want six pairs of hex digits separated by colons")]
pub struct InvalidMac(pub String);

// === impl Mac ===

impl Mac {
    /// An address for a virtual device: `bytes` made unicast and locally administered (IEEE 802, 8.2.2).
    pub const fn local(mut bytes: [u8; 6]) -> Self {
        bytes[0] = (bytes[0] | 0x02) & 0xfe;
        Self(bytes)
    }

    /// Whether a device can have it: neither a group address nor all zeros.
    pub fn is_valid_for_device(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

impl FromStr for Mac {
    type Err = InvalidMac;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidMac(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().ok_or_else(invalid)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(invalid());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| invalid())?;
        }
        match parts.next() {
            None => Ok(Self(bytes)),
            Some(_) => Err(invalid()),
        }
    }
}

impl TryFrom<String> for Mac {
    type Error = InvalidMac;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        let mac: Mac = "C6:d2:32:6f:8f:44".parse().unwrap();
        assert_eq!(mac.0, [0xc6, 0xd2, 0x32, 0x6f, 0x8f, 0x44]);
        assert_eq!(mac.to_string(), "c6:d2:32:6f:8f:44");
    }

    #[test]
    fn refuses_other_texts() {
        for text in [
            "",
            "c6:d2:32:6f:8f",
            "c6:d2:32:6f:8f:44:55",
            "+6:d2:32:6f:8f:44",
            "c6-d2-32-6f-8f-44",
        ] {
            assert_eq!(text.parse::<Mac>(), Err(InvalidMac(text.into())));
        }
    }

    #[test]
    fn local_is_unicast_and_locally_administered() {
        let mac = Mac::local([0xff; 6]);
        assert_eq!(mac.0[0], 0xfe);
        assert!(mac.is_valid_for_device());
        assert!(!Mac([0; 6]).is_valid_for_device());
    }
}
