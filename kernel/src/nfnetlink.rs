//! nfnetlink: what the subsystems of netfilter have in common (`linux/netfilter/nfnetlink.h`).

use crate::netlink::{Request, attribute::Body};

/// Length of `struct nfgenmsg`, which precedes the attributes.
pub(crate) const HEADER_LEN: usize = 4;

/// `NFNL_SUBSYS_*`: whose message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subsystem {
    Conntrack = 1,
    Sets = 6,
    Accounting = 7,
    Tables = 10,
}

// === impl Subsystem ===

impl Subsystem {
    /// The type of one of its messages.
    pub(crate) const fn kind(self, message: u8) -> u16 {
        (self as u16) << 8 | message as u16
    }

    /// Whether a message of a type is one of its.
    pub(crate) const fn sent(self, kind: u16) -> bool {
        kind >> 8 == self as u16
    }
}

/// `struct nfgenmsg`: a family of packets (`NFPROTO_*`), version 0, and what is particular to a message.
pub(crate) const fn header(family: u8, resource: u16) -> [u8; HEADER_LEN] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

/// Begins a message about packets of a family (`NFPROTO_*`; 0: of any).
pub(crate) fn start(family: u8) -> Body {
    Body::new(&header(family, 0))
}

/// A message of a type ([`Subsystem::kind`]), from a body that was begun by [`start`].
pub(crate) fn request(kind: u16, flags: u16, body: Body) -> Request {
    Request {
        kind,
        flags,
        body: body.into_bytes(),
    }
}

/// The family of packets (`NFPROTO_*`) and the attributes of a message; `None` if it is cut off.
pub(crate) fn split(body: &[u8]) -> Option<(u8, &[u8])> {
    let (header, attributes) = body.split_first_chunk::<HEADER_LEN>()?;
    Some((header[0], attributes))
}
