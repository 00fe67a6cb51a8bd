//! `payload`: loads a part of the packet (`enum nft_payload_attributes`).

use super::{Expr, Register};
use crate::nft::wire::{Attributes, View};

const TO: u16 = 1;
const BASE: u16 = 2;
const OFFSET: u16 = 3;
const LEN: u16 = 4;

/// Where an offset into a packet counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// The link header: that of Ethernet.
    Link = 0,
    /// The network header.
    Network = 1,
    /// The transport header.
    Transport = 2,
}

// === impl Header ===

impl Header {
    const ALL: [Self; 3] = [Self::Link, Self::Network, Self::Transport];
}

pub(super) fn encode(header: Header, offset: u32, len: u32, to: Register) -> Attributes {
    to.put(Attributes::default(), TO)
        .u32(BASE, header as u32)
        .u32(OFFSET, offset)
        .u32(LEN, len)
}

pub(super) fn decode(view: View<'_>) -> Option<Expr> {
    let base = view.u32(BASE)?;
    Some(Expr::Payload {
        header: Header::ALL
            .into_iter()
            .find(|header| *header as u32 == base)?,
        offset: view.u32(OFFSET)?,
        len: view.u32(LEN)?,
        to: Register::find(view, TO)?,
    })
}

#[cfg(test)]
pub(super) fn samples() -> Vec<Expr> {
    let payload = |header, offset| Expr::Payload {
        header,
        offset,
        len: 4,
        to: Register::FIRST,
    };
    vec![
        payload(Header::Link, 0),
        payload(Header::Network, 16),
        payload(Header::Transport, 2),
    ]
}
