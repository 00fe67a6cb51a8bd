//! `fib`: loads the routing type of an address (`enum nft_fib_attributes`).

use super::{Expr, Register};
use crate::nft::wire::{Attributes, View};

const TO: u16 = 1;
const RESULT: u16 = 2;
const FLAGS: u16 = 3;

/// `NFTA_FIB_F_SADDR`, `NFTA_FIB_F_DADDR`.
const SOURCE: u32 = 1;
const DESTINATION: u32 = 2;
/// `NFT_FIB_RESULT_ADDRTYPE`.
const ADDRESS_TYPE: u32 = 3;

pub(super) fn encode(source: bool, to: Register) -> Attributes {
    to.put(Attributes::default(), TO)
        .u32(RESULT, ADDRESS_TYPE)
        .u32(FLAGS, if source { SOURCE } else { DESTINATION })
}

pub(super) fn decode(view: View<'_>) -> Option<Expr> {
    (view.u32(RESULT)? == ADDRESS_TYPE).then_some(())?;
    let source = match view.u32(FLAGS)? {
        SOURCE => true,
        DESTINATION => false,
        _ => return None,
    };
    let to = Register::find(view, TO)?;
    Some(Expr::FibType { source, to })
}

#[cfg(test)]
pub(super) fn samples() -> Vec<Expr> {
    let to = Register::FIRST;
    [true, false]
        .map(|source| Expr::FibType { source, to })
        .to_vec()
}
