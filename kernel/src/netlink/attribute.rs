//! Netlink attributes: length, kind, payload, padded to four bytes (netlink(7), `struct nlattr`).

use super::{align, array_at};

pub(crate) const HEADER_LEN: usize = 4;
/// `NLA_F_NESTED`.
pub(crate) const NESTED: u16 = 0x8000;
/// `NLA_TYPE_MASK`.
const KIND_MASK: u16 = 0x3fff;

/// A request's body that is being written: a fixed header, then attributes.
///
/// A payload has to stay below 64 KiB; callers split what can grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Body(Vec<u8>);

// === impl Body ===

impl Body {
    /// Starts with the protocol's own header.
    pub(crate) fn new(header: &[u8]) -> Self {
        Self(header.to_vec())
    }

    pub(crate) fn put(&mut self, kind: u16, payload: &[u8]) {
        self.open(kind, |body| body.0.extend_from_slice(payload));
    }

    /// A text with its closing zero.
    pub(crate) fn put_text(&mut self, kind: u16, text: &str) {
        self.open(kind, |body| {
            body.0.extend_from_slice(text.as_bytes());
            body.0.push(0);
        });
    }

    /// An attribute that consists of what `inner` writes.
    pub(crate) fn nest(&mut self, kind: u16, inner: impl FnOnce(&mut Self)) {
        self.open(kind | NESTED, inner);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn open(&mut self, kind: u16, payload: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 2]);
        self.0.extend_from_slice(&kind.to_ne_bytes());
        payload(self);
        let len = self.0.len() - start;
        debug_assert!(len <= usize::from(u16::MAX), "attribute of {len} bytes");
        self.0[start..start + 2].copy_from_slice(&(len as u16).to_ne_bytes());
        self.0.resize(align(self.0.len()), 0);
    }
}

/// Every attribute with its kind; what is cut off or has an impossible length ends the list.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16::from_ne_bytes(array_at(bytes, 0)?));
        let kind = u16::from_ne_bytes(array_at(bytes, 2)?);
        let payload = bytes.get(HEADER_LEN..len)?;
        bytes = bytes.get(align(len)..).unwrap_or_default();
        Some((kind & KIND_MASK, payload))
    })
}

/// The payload of the first attribute of a kind.
pub(crate) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes)
        .find(|(other, _)| *other == kind)
        .map(|(_, payload)| payload)
}

/// The text before the first zero, if it is UTF-8.
pub(crate) fn text(payload: &[u8]) -> Option<&str> {
    payload
        .split(|byte| *byte == 0)
        .next()
        .and_then(|bytes| std::str::from_utf8(bytes).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut body = Body::new(&[9; 4]);
        body.put(1, &[7]);
        body.nest(2, |inner| inner.put_text(3, "abc"));
        let bytes = body.into_bytes();
        assert_eq!(bytes.len(), 4 + 8 + 4 + 8);
        assert_eq!(find(&bytes[4..], 1), Some(&[7][..]));
        let inner = find(&bytes[4..], 2).unwrap();
        assert_eq!(find(inner, 3).and_then(text), Some("abc"));
        assert_eq!(find(inner, 4), None);
    }

    proptest::proptest! {
        #[test]
        fn never_panics_on_any_bytes(bytes: Vec<u8>) {
            proptest::prop_assert!(attributes(&bytes).count() <= bytes.len());
        }
    }
}
