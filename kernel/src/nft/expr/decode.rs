//! Attributes to expressions.
//!
//! What has a part that our own rules never have is [`Expr::Foreign`], so that a rule is taken for ours only
//! if it does exactly what ours does.

use super::{
    CtKey, DynSetOperation, Expr, ExtensionKind, Header, LookupTarget, MetaKey, Register,
    attribute::*, number,
};
use crate::nft::wire::{View, decode_verdict};

/// Reads an element of a rule's expression list.
pub(in crate::nft) fn decode(view: View<'_>) -> Expr {
    let name = view.text(NAME).unwrap_or_default();
    view.nest(CONTENT)
        .or_else(|| Some(View::new(&[])))
        .and_then(|content| decode_content(&name, content))
        .unwrap_or(Expr::Foreign(name))
}

fn decode_content(name: &str, view: View<'_>) -> Option<Expr> {
    match name {
        "payload" => payload(view),
        "meta" => meta(view),
        "ct" => ct(view),
        "cmp" => compare(view),
        "bitwise" => bitwise(view),
        "lookup" => lookup(view),
        "dynset" => dynset(view),
        "numgen" => numgen(view),
        "immediate" => immediate(view),
        "nat" => nat(view),
        "masq" => masquerade(view),
        "reject" => Some(Expr::Reject {
            kind: view.u32(REJECT_KIND)?,
            code: view.u8(REJECT_CODE)?,
        }),
        "fib" => fib(view),
        "range" => range(view),
        "match" | "target" => extension(name, view),
        "counter" => Some(Expr::Counter),
        _ => None,
    }
}

fn payload(view: View<'_>) -> Option<Expr> {
    let base = view.u32(PAYLOAD_BASE)?;
    Some(Expr::Payload {
        header: [Header::Link, Header::Network, Header::Transport]
            .into_iter()
            .find(|header| *header as u32 == base)?,
        offset: view.u32(PAYLOAD_OFFSET)?,
        len: view.u32(PAYLOAD_LEN)?,
        to: register(view, PAYLOAD_TO)?,
    })
}

fn meta(view: View<'_>) -> Option<Expr> {
    let number = view.u32(META_KEY)?;
    let key = MetaKey::ALL.into_iter().find(|key| *key as u32 == number)?;
    match register(view, META_FROM) {
        Some(from) => Some(Expr::SetMeta { key, from }),
        None => register(view, META_TO).map(|to| Expr::Meta { key, to }),
    }
}

fn ct(view: View<'_>) -> Option<Expr> {
    let number = view.u32(CT_KEY)?;
    let key = CtKey::ALL.into_iter().find(|key| *key as u32 == number)?;
    absent(view, CT_DIRECTION)?;
    Some(Expr::Ct {
        key,
        to: register(view, CT_TO)?,
    })
}

fn compare(view: View<'_>) -> Option<Expr> {
    Some(Expr::Compare {
        from: register(view, COMPARE_FROM)?,
        negated: match view.u32(COMPARE_OPERATOR)? {
            number::EQUAL => false,
            number::NOT_EQUAL => true,
            _ => return None,
        },
        value: data(view, COMPARE_DATA)?,
    })
}

fn bitwise(view: View<'_>) -> Option<Expr> {
    // Kernels before 5.5 know one operation only and don't name it.
    let operation = view.u32(BITWISE_OPERATION).unwrap_or(number::MASK_XOR);
    let (mask, xor) = (data(view, BITWISE_MASK)?, data(view, BITWISE_XOR)?);
    let len = view.u32(BITWISE_LEN)? as usize;
    (operation == number::MASK_XOR && mask.len() == len && xor.len() == len).then_some(())?;
    Some(Expr::Bitwise {
        from: register(view, BITWISE_FROM)?,
        to: register(view, BITWISE_TO)?,
        mask,
        xor,
    })
}

fn lookup(view: View<'_>) -> Option<Expr> {
    let flags = view.u32(LOOKUP_FLAGS).unwrap_or_default();
    (flags & !number::INVERTED == 0).then_some(())?;
    Some(Expr::Lookup {
        set: view.text(LOOKUP_SET)?,
        key: register(view, LOOKUP_KEY)?,
        to: match view.u32(LOOKUP_TO) {
            None => LookupTarget::Nothing,
            Some(number::VERDICT_REGISTER) => LookupTarget::Verdict,
            Some(number) => LookupTarget::Register(Register::from_number(number)?),
        },
        negated: flags == number::INVERTED,
    })
}

fn dynset(view: View<'_>) -> Option<Expr> {
    absent(view, DYNSET_EXPRESSION)?;
    absent(view, DYNSET_EXPRESSIONS)?;
    let number = view.u32(DYNSET_OPERATION)?;
    Some(Expr::DynSet {
        map: view.text(DYNSET_SET)?,
        operation: DynSetOperation::ALL
            .into_iter()
            .find(|operation| *operation as u32 == number)?,
        key: register(view, DYNSET_KEY)?,
        data: register(view, DYNSET_DATA)?,
        timeout: view.u64(DYNSET_TIMEOUT).unwrap_or_default(),
    })
}

fn numgen(view: View<'_>) -> Option<Expr> {
    let plain = view.u32(NUMGEN_KIND)? == number::RANDOM
        && view.u32(NUMGEN_OFFSET).unwrap_or_default() == 0;
    plain.then_some(())?;
    Some(Expr::Random {
        modulus: view.u32(NUMGEN_MODULUS)?,
        to: register(view, NUMGEN_TO)?,
    })
}

fn immediate(view: View<'_>) -> Option<Expr> {
    if view.u32(IMMEDIATE_TO)? != number::VERDICT_REGISTER {
        return Some(Expr::Immediate {
            to: register(view, IMMEDIATE_TO)?,
            value: data(view, IMMEDIATE_DATA)?,
        });
    }
    let verdict = view.nest(IMMEDIATE_DATA)?.nest(DATA_VERDICT)?;
    decode_verdict(verdict).map(Expr::Verdict)
}

fn nat(view: View<'_>) -> Option<Expr> {
    let address = register(view, NAT_ADDRESS_MIN)?;
    let port = register(view, NAT_PORT_MIN)?;
    // The kernel shows a range of one even where only a minimum was given.
    let single =
        same_or_absent(view, NAT_ADDRESS_MAX, address) && same_or_absent(view, NAT_PORT_MAX, port);
    (single && view.u32(NAT_KIND)? == number::DNAT).then_some(())?;
    Some(Expr::Dnat {
        family: view.u32(NAT_FAMILY)?,
        address,
        port,
        flags: view.u32(NAT_FLAGS).unwrap_or_default() & !number::IMPLIED_FLAGS,
    })
}

fn masquerade(view: View<'_>) -> Option<Expr> {
    absent(view, MASQUERADE_PORT_MIN)?;
    Some(Expr::Masquerade {
        flags: view.u32(MASQUERADE_FLAGS).unwrap_or_default(),
    })
}

fn fib(view: View<'_>) -> Option<Expr> {
    (view.u32(FIB_RESULT)? == number::FIB_ADDRESS_TYPE).then_some(())?;
    Some(Expr::FibType {
        source: match view.u32(FIB_FLAGS)? {
            number::FIB_SOURCE => true,
            number::FIB_DESTINATION => false,
            _ => return None,
        },
        to: register(view, FIB_TO)?,
    })
}

fn range(view: View<'_>) -> Option<Expr> {
    (view.u32(RANGE_OPERATOR)? == number::EQUAL).then_some(())?;
    Some(Expr::Range {
        from: register(view, RANGE_FROM)?,
        first: data(view, RANGE_FIRST)?,
        last: data(view, RANGE_LAST)?,
    })
}

fn extension(kind: &str, view: View<'_>) -> Option<Expr> {
    Some(Expr::Extension {
        kind: ExtensionKind::ALL
            .into_iter()
            .find(|known| known.name() == kind)?,
        name: view.text(EXTENSION_NAME)?,
        revision: view.u32(EXTENSION_REVISION)?,
        info: view.find(EXTENSION_INFO)?.to_vec(),
    })
}

fn register(view: View<'_>, kind: u16) -> Option<Register> {
    Register::from_number(view.u32(kind)?)
}

fn same_or_absent(view: View<'_>, kind: u16, register: Register) -> bool {
    view.u32(kind)
        .is_none_or(|number| Register::from_number(number) == Some(register))
}

fn absent(view: View<'_>, kind: u16) -> Option<()> {
    view.find(kind).is_none().then_some(())
}

fn data(view: View<'_>, kind: u16) -> Option<Vec<u8>> {
    Some(view.nest(kind)?.find(DATA_VALUE)?.to_vec())
}
