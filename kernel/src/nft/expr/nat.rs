//! `nat`: translates the destination (`enum nft_nat_attributes`).

use super::{Expr, Register};
use crate::nft::wire::{Attributes, View};

const KIND: u16 = 1;
const FAMILY: u16 = 2;
const ADDRESS_MIN: u16 = 3;
const ADDRESS_MAX: u16 = 4;
const PORT_MIN: u16 = 5;
const PORT_MAX: u16 = 6;
const FLAGS: u16 = 7;

/// `NFT_NAT_DNAT`.
const DNAT: u32 = 1;
/// `NF_NAT_RANGE_MAP_IPS | NF_NAT_RANGE_PROTO_SPECIFIED`: the kernel sets them itself.
const IMPLIED_FLAGS: u32 = 3;

pub(super) fn encode(family: u32, address: Register, port: Register, flags: u32) -> Attributes {
    let list = Attributes::default().u32(KIND, DNAT).u32(FAMILY, family);
    let list = port.put(address.put(list, ADDRESS_MIN), PORT_MIN);
    match flags {
        0 => list,
        flags => list.u32(FLAGS, flags),
    }
}

pub(super) fn decode(view: View<'_>) -> Option<Expr> {
    let address = Register::find(view, ADDRESS_MIN)?;
    let port = Register::find(view, PORT_MIN)?;
    // The kernel shows a range of one even where only a minimum was given.
    let single = same_or_absent(view, ADDRESS_MAX, address) && same_or_absent(view, PORT_MAX, port);
    (single && view.u32(KIND)? == DNAT).then_some(())?;
    Some(Expr::Dnat {
        family: view.u32(FAMILY)?,
        address,
        port,
        flags: view.u32(FLAGS).unwrap_or_default() & !IMPLIED_FLAGS,
    })
}

fn same_or_absent(view: View<'_>, kind: u16, register: Register) -> bool {
    view.u32(kind)
        .is_none_or(|number| Register::from_number(number) == Some(register))
}

#[cfg(test)]
pub(super) fn samples() -> Vec<Expr> {
    let dnat = |flags| Expr::Dnat {
        family: 2,
        address: Register::FIRST,
        port: Register::nth(1),
        flags,
    };
    vec![dnat(0), dnat(16)]
}
