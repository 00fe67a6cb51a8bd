//! Netlink attributes: length, kind, payload, padded to four bytes (netlink(7), `struct nlattr`).

use crate::{
    netlink::{
        align, array_at,
        attribute::{self, HEADER_LEN, NESTED},
    },
    nft::Invalid,
};

/// Attributes that are being written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::nft) struct Attributes {
    bytes: Vec<u8>,
    /// The length of an attribute has 16 bits; what does not fit is noticed at the end.
    too_long: bool,
}

/// Attributes that are being read. What is cut off or has an impossible length ends the list.
#[derive(Clone, Copy, Debug)]
pub(in crate::nft) struct View<'a>(&'a [u8]);

// === impl Attributes ===

impl Attributes {
    pub(in crate::nft) fn bytes(mut self, kind: u16, payload: &[u8]) -> Self {
        match u16::try_from(HEADER_LEN + payload.len()) {
            Ok(len) => self.bytes.extend_from_slice(&len.to_ne_bytes()),
            Err(_) => {
                self.too_long = true;
                return self;
            }
        }
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(payload);
        self.bytes.resize(align(self.bytes.len()), 0);
        self
    }

    pub(in crate::nft) fn u8(self, kind: u16, value: u8) -> Self {
        self.bytes(kind, &[value])
    }

    pub(in crate::nft) fn u32(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub(in crate::nft) fn u64(self, kind: u16, value: u64) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub(in crate::nft) fn text(self, kind: u16, text: &str) -> Self {
        let mut payload = text.as_bytes().to_vec();
        payload.push(0);
        self.bytes(kind, &payload)
    }

    pub(in crate::nft) fn nest(mut self, kind: u16, inner: Self) -> Self {
        self.too_long |= inner.too_long;
        self.bytes(kind | NESTED, &inner.bytes)
    }

    /// # Errors
    /// If one of them is longer than an attribute can be.
    pub(in crate::nft) fn finish(self) -> Result<Vec<u8>, Invalid> {
        if self.too_long {
            Err(Invalid::TooLong)
        } else {
            Ok(self.bytes)
        }
    }
}

// === impl View ===

impl<'a> View<'a> {
    pub(in crate::nft) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Every attribute with its kind.
    pub(in crate::nft) fn iter(self) -> impl Iterator<Item = (u16, &'a [u8])> {
        attribute::attributes(self.0)
    }

    /// The nested lists of one kind.
    pub(in crate::nft) fn nests(self, kind: u16) -> impl Iterator<Item = View<'a>> {
        self.iter()
            .filter(move |(other, _)| *other == kind)
            .map(|(_, payload)| View(payload))
    }

    pub(in crate::nft) fn find(self, kind: u16) -> Option<&'a [u8]> {
        attribute::find(self.0, kind)
    }

    /// Goes on only if there is no attribute of a kind.
    pub(in crate::nft) fn lacks(self, kind: u16) -> Option<()> {
        self.find(kind).is_none().then_some(())
    }

    pub(in crate::nft) fn nest(self, kind: u16) -> Option<Self> {
        self.find(kind).map(View)
    }

    pub(in crate::nft) fn u8(self, kind: u16) -> Option<u8> {
        self.find(kind)?.first().copied()
    }

    pub(in crate::nft) fn u32(self, kind: u16) -> Option<u32> {
        array_at(self.find(kind)?, 0).map(u32::from_be_bytes)
    }

    pub(in crate::nft) fn u64(self, kind: u16) -> Option<u64> {
        array_at(self.find(kind)?, 0).map(u64::from_be_bytes)
    }

    pub(in crate::nft) fn text(self, kind: u16) -> Option<String> {
        until_nul(self.find(kind)?)
    }
}

/// The text before the first NUL, if it is UTF-8.
pub(super) fn until_nul(bytes: &[u8]) -> Option<String> {
    attribute::text(bytes).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let inner = Attributes::default().u32(1, 7).text(2, "abc");
        let bytes = Attributes::default()
            .nest(3, inner)
            .u8(4, 9)
            .finish()
            .unwrap();
        let view = View::new(&bytes);
        let nested = view.nest(3).unwrap();
        assert_eq!(nested.u32(1), Some(7));
        assert_eq!(nested.text(2).as_deref(), Some("abc"));
        assert_eq!(view.u8(4), Some(9));
        assert_eq!(view.u8(5), None);
    }

    #[test]
    fn an_attribute_of_more_than_64_kilobytes_is_refused() {
        let inner = Attributes::default().bytes(1, &vec![0; 65_536]);
        assert_eq!(
            Attributes::default().nest(2, inner).finish(),
            Err(Invalid::TooLong)
        );
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_can_be_looked_through(bytes: Vec<u8>, kind: u16) {
            let view = View::new(&bytes);
            proptest::prop_assert!(view.iter().count() <= bytes.len() / HEADER_LEN);
            view.nests(kind).for_each(|nest| drop(nest.text(kind)));
        }
    }
}
