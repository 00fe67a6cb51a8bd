//! Statements to register expressions.

use ipnetwork::IpNetwork;

use super::{
    CtKey, Expr, Field, Header, Invalid, LookupTarget, Match, MetaKey, Operator, Register, Rule,
    Statement, Value, text::InFamily, wire::protocol_family,
};
use crate::{Family, netlink::align};

/// `NF_NAT_RANGE_PROTO_RANDOM_FULLY`.
const RANDOM_FULLY: u32 = 0x10;
/// `NFT_REJECT_ICMP_UNREACH`.
const REJECT_UNREACHABLE: u32 = 0;
/// `RTN_LOCAL`.
const ROUTE_TYPE_LOCAL: u32 = 2;
/// The longest comment that nft(8) takes.
const COMMENT_LEN: usize = 128;

/// What the kernel makes of a rule in a table of the family.
///
/// # Errors
/// If a field is compared with what it can't be, or the comment is not one.
pub fn lower(rule: &Rule, family: Family) -> Result<Vec<Expr>, Invalid> {
    check_comment(rule.comment.as_deref())?;
    let mut expressions = Vec::new();
    for statement in &rule.statements {
        expressions.extend(lower_statement(statement, family)?);
    }
    Ok(expressions)
}

/// Refuses comments that nft(8) could not print so that it reads them back.
pub(super) fn check_comment(comment: Option<&str>) -> Result<(), Invalid> {
    match comment {
        Some(comment)
            if comment.len() > COMMENT_LEN
                || comment.contains(|c: char| c == '"' || c.is_control()) =>
        {
            Err(Invalid::Comment(comment.to_owned()))
        }
        _ => Ok(()),
    }
}

fn lower_statement(statement: &Statement, family: Family) -> Result<Vec<Expr>, Invalid> {
    let in_words = || InFamily(statement, family).to_string();
    let concatenate = |fields: &[Field]| {
        concatenate(fields, family).ok_or_else(|| Invalid::Registers(in_words()))
    };
    let look_up = |set: &str, to, negated| Expr::Lookup {
        set: set.to_owned(),
        key: Register::FIRST,
        to,
        negated,
    };
    let mut expressions = Vec::new();
    match statement {
        Statement::Match(comparison) => {
            let lowered = lower_match(comparison, family);
            expressions.extend(lowered.ok_or_else(|| Invalid::Comparison(in_words()))?);
        }
        Statement::InSet {
            fields,
            negated,
            set,
        } => {
            expressions.extend(concatenate(fields)?);
            expressions.push(look_up(set, LookupTarget::Nothing, *negated));
        }
        Statement::VerdictMap { fields, map } => {
            expressions.extend(concatenate(fields)?);
            expressions.push(look_up(map, LookupTarget::Verdict, false));
        }
        Statement::DnatMap { fields, map } => {
            expressions.extend(concatenate(fields)?);
            expressions.push(look_up(map, LookupTarget::Register(Register::FIRST), false));
            expressions.push(dnat(family).ok_or_else(|| Invalid::Registers(in_words()))?);
        }
        Statement::Masquerade { fully_random } => expressions.push(Expr::Masquerade {
            flags: if *fully_random { RANDOM_FULLY } else { 0 },
        }),
        Statement::SetMark { mask, bits } => expressions.extend(set_mark(*mask, *bits)),
        Statement::Reject => expressions.push(Expr::Reject {
            kind: REJECT_UNREACHABLE,
            code: port_unreachable(family),
        }),
        Statement::Counter => expressions.push(Expr::Counter),
        Statement::Verdict(verdict) => expressions.push(Expr::Verdict(verdict.clone())),
    }
    Ok(expressions)
}

/// Loads fields one behind the other, each at the beginning of a register of four bytes.
fn concatenate(fields: &[Field], family: Family) -> Option<Vec<Expr>> {
    let mut offset = 0;
    fields
        .iter()
        .map(|field| {
            let len = field.len(family);
            let to = Register::after(offset, len)?;
            offset += align(len);
            Some(load(*field, family, to))
        })
        .collect()
}

fn load(field: Field, family: Family, to: Register) -> Expr {
    let payload = |header, offset| Expr::Payload {
        header,
        offset,
        len: field.len(family) as u32,
        to,
    };
    let (source, destination) = address_offsets(family);
    match field {
        Field::SourceAddress => payload(Header::Network, source),
        Field::DestinationAddress => payload(Header::Network, destination),
        Field::SourcePort => payload(Header::Transport, 0),
        Field::DestinationPort => payload(Header::Transport, 2),
        Field::Protocol => Expr::Meta {
            key: MetaKey::Protocol,
            to,
        },
        Field::Mark => Expr::Meta {
            key: MetaKey::Mark,
            to,
        },
        Field::InputInterface => Expr::Meta {
            key: MetaKey::InputName,
            to,
        },
        Field::OutputInterface => Expr::Meta {
            key: MetaKey::OutputName,
            to,
        },
        Field::CtState => Expr::Ct {
            key: CtKey::State,
            to,
        },
        Field::CtStatus => Expr::Ct {
            key: CtKey::Status,
            to,
        },
        Field::SourceType => Expr::FibType { source: true, to },
        Field::DestinationType => Expr::FibType { source: false, to },
        Field::Random { modulus } => Expr::Random { modulus, to },
    }
}

/// `None` if the operator does not fit the field.
fn lower_match(comparison: &Match, family: Family) -> Option<Vec<Expr>> {
    let field = comparison.field;
    match &comparison.operator {
        Operator::Is(Value::Network(network)) => in_network(field, network, false, family),
        Operator::IsNot(Value::Network(network)) => in_network(field, network, true, family),
        Operator::Is(value) => equal(field, value, false, family),
        Operator::IsNot(value) => equal(field, value, true, family),
        Operator::HasAny(bits) => any_bit(field, *bits, true, family),
        Operator::HasNone(bits) => any_bit(field, *bits, false, family),
        Operator::IsLocal => is_local(field, false, family),
        Operator::IsNotLocal => is_local(field, true, family),
    }
}

fn equal(field: Field, value: &Value, negated: bool, family: Family) -> Option<Vec<Expr>> {
    let fits = match (field, value) {
        (Field::SourceAddress | Field::DestinationAddress, Value::Address(address)) => {
            Family::of(address) == family
        }
        (Field::Protocol, Value::Protocol(_))
        | (Field::SourcePort | Field::DestinationPort, Value::Port(_))
        | (Field::Mark, Value::Mark(_))
        | (Field::Random { .. }, Value::Number(_))
        | (Field::InputInterface | Field::OutputInterface, Value::IfName(_)) => true,
        _ => false,
    };
    let value = value.encode().ok().filter(|_| fits)?;
    Some(vec![
        load(field, family, Register::FIRST),
        compare(value, negated),
    ])
}

/// Compares the first bytes of an address, under a mask where the prefix ends within a byte.
fn in_network(
    field: Field,
    network: &IpNetwork,
    negated: bool,
    family: Family,
) -> Option<Vec<Expr>> {
    let is_address = matches!(field, Field::SourceAddress | Field::DestinationAddress);
    (is_address && Family::of_network(network) == family).then_some(())?;
    let mut load = load(field, family, Register::FIRST);
    let address = Value::Address(network.network()).encode().ok()?;
    let whole_bytes = usize::from(network.prefix() / 8);
    if network.prefix() > 0 && network.prefix().is_multiple_of(8) {
        if let Expr::Payload { len, .. } = &mut load {
            *len = whole_bytes as u32;
        }
        return Some(vec![
            load,
            compare(address.get(..whole_bytes)?.to_vec(), negated),
        ]);
    }
    let mask = Value::Address(network.mask()).encode().ok()?;
    Some(vec![load, bitwise(mask), compare(address, negated)])
}

fn any_bit(field: Field, bits: u32, any: bool, family: Family) -> Option<Vec<Expr>> {
    matches!(field, Field::CtState | Field::CtStatus | Field::Mark).then(|| {
        let mask = bits.to_ne_bytes().to_vec();
        let none = 0u32.to_ne_bytes().to_vec();
        vec![
            load(field, family, Register::FIRST),
            bitwise(mask),
            compare(none, any),
        ]
    })
}

fn is_local(field: Field, negated: bool, family: Family) -> Option<Vec<Expr>> {
    matches!(field, Field::SourceType | Field::DestinationType).then(|| {
        let local = ROUTE_TYPE_LOCAL.to_ne_bytes().to_vec();
        vec![
            load(field, family, Register::FIRST),
            compare(local, negated),
        ]
    })
}

/// `meta mark set meta mark & !mask ^ bits`.
fn set_mark(mask: u32, bits: u32) -> [Expr; 3] {
    [
        Expr::Meta {
            key: MetaKey::Mark,
            to: Register::FIRST,
        },
        Expr::Bitwise {
            from: Register::FIRST,
            to: Register::FIRST,
            mask: (!mask).to_ne_bytes().to_vec(),
            xor: (bits & mask).to_ne_bytes().to_vec(),
        },
        Expr::SetMeta {
            key: MetaKey::Mark,
            from: Register::FIRST,
        },
    ]
}

/// Translates to an address and the port behind it, both in registers from the first one on.
fn dnat(family: Family) -> Option<Expr> {
    Some(Expr::Dnat {
        family: u32::from(protocol_family(family)),
        address: Register::FIRST,
        port: Register::after(family.address_len(), 2)?,
        flags: 0,
    })
}

fn compare(value: Vec<u8>, negated: bool) -> Expr {
    Expr::Compare {
        from: Register::FIRST,
        negated,
        value,
    }
}

fn bitwise(mask: Vec<u8>) -> Expr {
    let xor = vec![0; mask.len()];
    Expr::Bitwise {
        from: Register::FIRST,
        to: Register::FIRST,
        mask,
        xor,
    }
}

/// Offsets of source and destination into the network header (RFC 791, RFC 8200).
const fn address_offsets(family: Family) -> (u32, u32) {
    match family {
        Family::V4 => (12, 16),
        Family::V6 => (8, 24),
    }
}

/// The ICMP code for "port unreachable" (RFC 792, RFC 4443).
const fn port_unreachable(family: Family) -> u8 {
    match family {
        Family::V4 => 3,
        Family::V6 => 4,
    }
}

// === impl Field ===

impl Field {
    /// Length in bytes, without padding.
    pub(super) const fn len(self, family: Family) -> usize {
        match self {
            Self::SourceAddress | Self::DestinationAddress => family.address_len(),
            Self::Protocol => 1,
            Self::SourcePort | Self::DestinationPort => 2,
            Self::InputInterface | Self::OutputInterface => crate::IfName::MAX_LEN + 1,
            Self::Mark
            | Self::CtState
            | Self::CtStatus
            | Self::SourceType
            | Self::DestinationType
            | Self::Random { .. } => 4,
        }
    }
}
