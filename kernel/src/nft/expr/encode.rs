//! Expressions to attributes.

use super::{Expr, LookupTarget, Register, attribute::*, number};
use crate::nft::wire::{Attributes, encode_verdict};

/// `NFTA_EXPR_NAME` and `NFTA_EXPR_DATA` of an expression.
pub(in crate::nft) fn encode(expr: &Expr) -> Attributes {
    let (name, content) = content(expr);
    Attributes::default()
        .text(NAME, name)
        .nest(CONTENT, content)
}

fn content(expr: &Expr) -> (&str, Attributes) {
    let list = Attributes::default();
    match expr {
        Expr::Payload {
            header,
            offset,
            len,
            to,
        } => {
            let list = put(list, PAYLOAD_TO, *to).u32(PAYLOAD_BASE, *header as u32);
            (
                "payload",
                list.u32(PAYLOAD_OFFSET, *offset).u32(PAYLOAD_LEN, *len),
            )
        }
        Expr::Meta { key, to } => ("meta", put(list, META_TO, *to).u32(META_KEY, *key as u32)),
        Expr::SetMeta { key, from } => (
            "meta",
            put(list.u32(META_KEY, *key as u32), META_FROM, *from),
        ),
        Expr::Ct { key, to } => ("ct", put(list, CT_TO, *to).u32(CT_KEY, *key as u32)),
        Expr::Compare {
            from,
            negated,
            value,
        } => {
            let operator = if *negated {
                number::NOT_EQUAL
            } else {
                number::EQUAL
            };
            let list = put(list, COMPARE_FROM, *from).u32(COMPARE_OPERATOR, operator);
            ("cmp", list.nest(COMPARE_DATA, data(value)))
        }
        Expr::Bitwise {
            from,
            to,
            mask,
            xor,
        } => {
            let list = put(put(list, BITWISE_FROM, *from), BITWISE_TO, *to);
            let list = list
                .u32(BITWISE_LEN, mask.len() as u32)
                .u32(BITWISE_OPERATION, number::MASK_XOR);
            (
                "bitwise",
                list.nest(BITWISE_MASK, data(mask))
                    .nest(BITWISE_XOR, data(xor)),
            )
        }
        Expr::Lookup {
            set,
            key,
            to,
            negated,
        } => ("lookup", lookup(set, *key, *to, *negated)),
        Expr::DynSet {
            map,
            operation,
            key,
            data,
            timeout,
        } => {
            let list = list
                .text(DYNSET_SET, map)
                .u32(DYNSET_OPERATION, *operation as u32);
            let list = put(put(list, DYNSET_KEY, *key), DYNSET_DATA, *data);
            let timed = *timeout > 0;
            (
                "dynset",
                if timed {
                    list.u64(DYNSET_TIMEOUT, *timeout)
                } else {
                    list
                },
            )
        }
        Expr::Random { modulus, to } => {
            let list = put(list, NUMGEN_TO, *to).u32(NUMGEN_MODULUS, *modulus);
            (
                "numgen",
                list.u32(NUMGEN_KIND, number::RANDOM).u32(NUMGEN_OFFSET, 0),
            )
        }
        Expr::Immediate { to, value } => (
            "immediate",
            put(list, IMMEDIATE_TO, *to).nest(IMMEDIATE_DATA, data(value)),
        ),
        Expr::Verdict(verdict) => {
            let data = Attributes::default().nest(DATA_VERDICT, encode_verdict(verdict));
            (
                "immediate",
                list.u32(IMMEDIATE_TO, number::VERDICT_REGISTER)
                    .nest(IMMEDIATE_DATA, data),
            )
        }
        Expr::Dnat {
            family,
            address,
            port,
            flags,
        } => ("nat", dnat(*family, *address, *port, *flags)),
        Expr::Masquerade { flags: 0 } => ("masq", list),
        Expr::Masquerade { flags } => ("masq", list.u32(MASQUERADE_FLAGS, *flags)),
        Expr::Reject { kind, code } => (
            "reject",
            list.u32(REJECT_KIND, *kind).u8(REJECT_CODE, *code),
        ),
        Expr::FibType { source, to } => {
            let flags = if *source {
                number::FIB_SOURCE
            } else {
                number::FIB_DESTINATION
            };
            let list = put(list, FIB_TO, *to).u32(FIB_RESULT, number::FIB_ADDRESS_TYPE);
            ("fib", list.u32(FIB_FLAGS, flags))
        }
        Expr::Range { from, first, last } => {
            let list = put(list, RANGE_FROM, *from).u32(RANGE_OPERATOR, number::EQUAL);
            (
                "range",
                list.nest(RANGE_FIRST, data(first))
                    .nest(RANGE_LAST, data(last)),
            )
        }
        Expr::Extension {
            kind,
            name,
            revision,
            info,
        } => {
            let list = list
                .text(EXTENSION_NAME, name)
                .u32(EXTENSION_REVISION, *revision);
            (kind.name(), list.bytes(EXTENSION_INFO, info))
        }
        Expr::Counter => ("counter", list),
        Expr::Foreign(name) => (name, list),
    }
}

fn lookup(set: &str, key: Register, to: LookupTarget, negated: bool) -> Attributes {
    let list = put(Attributes::default().text(LOOKUP_SET, set), LOOKUP_KEY, key);
    let list = match to {
        LookupTarget::Nothing => list,
        LookupTarget::Verdict => list.u32(LOOKUP_TO, number::VERDICT_REGISTER),
        LookupTarget::Register(register) => put(list, LOOKUP_TO, register),
    };
    list.u32(LOOKUP_FLAGS, if negated { number::INVERTED } else { 0 })
}

fn dnat(family: u32, address: Register, port: Register, flags: u32) -> Attributes {
    let list = Attributes::default()
        .u32(NAT_KIND, number::DNAT)
        .u32(NAT_FAMILY, family);
    let list = put(put(list, NAT_ADDRESS_MIN, address), NAT_PORT_MIN, port);
    if flags == 0 {
        list
    } else {
        list.u32(NAT_FLAGS, flags)
    }
}

fn put(list: Attributes, kind: u16, register: Register) -> Attributes {
    list.u32(kind, register.number())
}

fn data(value: &[u8]) -> Attributes {
    Attributes::default().bytes(DATA_VALUE, value)
}
