//! Statements to register expressions.

mod comparison;
mod term;

use std::net::SocketAddr;

use comparison::lower_match;
use term::{delete, dnat_terms, update};

use super::{
    CtKey, Expr, Field, Header, Invalid, LookupTarget, MetaKey, Register, Rule, Statement,
    TableFamily, Value, text::InFamily,
};
use crate::{Family, netlink::align};

/// `NF_NAT_RANGE_PROTO_RANDOM_FULLY`.
const RANDOM_FULLY: u32 = 0x10;
/// `NFT_REJECT_ICMP_UNREACH`.
const REJECT_UNREACHABLE: u32 = 0;
/// Offset of the source into an Ethernet header (IEEE 802.3).
const ETHER_SOURCE: u32 = 6;
/// Length of a wide register in bytes.
const WIDE_LEN: usize = 16;
/// The longest comment that nft(8) takes.
const COMMENT_LEN: usize = 128;

/// What the kernel makes of a rule in a table of the family.
///
/// # Errors
/// If a field is compared with what it can't be, or the comment is not one.
pub fn lower(rule: &Rule, table: impl Into<TableFamily>) -> Result<Vec<Expr>, Invalid> {
    check_comment(rule.comment.as_deref())?;
    let table = table.into();
    let mut packets = table.of_packets();
    let mut expressions = Vec::new();
    for statement in &rule.statements {
        if let (TableFamily::Inet, None, Statement::Match(comparison)) = (table, packets, statement)
        {
            // As nft does unasked: other packets have something else where the address is.
            packets = comparison.family();
            expressions.extend(packets.into_iter().flat_map(is_of_family));
        }
        if packets.is_none() && statement.needs_family() {
            return Err(Invalid::Family(InFamily(statement, table).to_string()));
        }
        // What does not need one comes out the same for each.
        let family = packets.unwrap_or(Family::V4);
        expressions.extend(lower_statement(statement, family)?);
    }
    Ok(expressions)
}

/// `meta nfproto`.
fn is_of_family(family: Family) -> [Expr; 2] {
    [
        Expr::Meta {
            key: MetaKey::Family,
            to: Register::FIRST,
        },
        Expr::Compare {
            from: Register::FIRST,
            negated: false,
            value: vec![TableFamily::from(family).number()],
        },
    ]
}

/// Refuses comments that nft(8) could not print so that it reads them back.
pub(crate) fn check_comment(comment: Option<&str>) -> Result<(), Invalid> {
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
    expressions(statement, family).ok_or_else(|| {
        let words = InFamily(statement, family.into()).to_string();
        match statement {
            Statement::Match(_) | Statement::Dnat(_) => Invalid::Comparison(words),
            _ => Invalid::Registers(words),
        }
    })
}

/// What a statement is to the kernel; `None` if it compares what can't be compared, or has no room in the registers.
fn expressions(statement: &Statement, family: Family) -> Option<Vec<Expr>> {
    Some(match statement {
        Statement::Match(comparison) => lower_match(comparison, family)?,
        Statement::InSet {
            fields,
            negated,
            set,
        } => look_up(fields, set, LookupTarget::Nothing, *negated, family)?,
        Statement::VerdictMap { fields, map } => {
            look_up(fields, map, LookupTarget::Verdict, false, family)?
        }
        Statement::DnatMap { fields, map } => {
            let to = LookupTarget::Register(Register::FIRST);
            let mut lowered = look_up(fields, map, to, false, family)?;
            lowered.push(dnat(family)?);
            lowered
        }
        Statement::DnatTerms { key, map } => dnat_terms(key, map, family)?,
        Statement::Update {
            map,
            key,
            data,
            timeout,
        } => update(map, key, data, *timeout, family)?,
        Statement::Delete { map, key } => delete(map, key, family)?,
        Statement::Dnat(destination) => dnat_to(*destination, family)?.into(),
        Statement::Masquerade { fully_random } => vec![Expr::Masquerade {
            flags: if *fully_random { RANDOM_FULLY } else { 0 },
        }],
        Statement::SetMark { mask, bits } => set_mark(*mask, *bits).into(),
        Statement::Reject => vec![Expr::Reject {
            kind: REJECT_UNREACHABLE,
            code: port_unreachable(family),
        }],
        Statement::Counter => vec![Expr::Counter],
        Statement::Verdict(verdict) => vec![Expr::Verdict(verdict.clone())],
    })
}

/// Loads fields and looks them up.
fn look_up(
    fields: &[Field],
    set: &str,
    to: LookupTarget,
    negated: bool,
    family: Family,
) -> Option<Vec<Expr>> {
    let mut lowered = concatenate(fields, family)?;
    lowered.push(Expr::Lookup {
        set: set.to_owned(),
        key: Register::FIRST,
        to,
        negated,
    });
    Some(lowered)
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
        Field::EtherSource => payload(Header::Link, ETHER_SOURCE),
        Field::Icmpv6Type | Field::SourcePort => payload(Header::Transport, 0),
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
        family: u32::from(TableFamily::from(family).number()),
        address: Register::FIRST,
        port: Register::after(family.address_len(), 2)?,
        flags: 0,
    })
}

/// Translates to a constant. The port is where nft puts it, in the second register of 128 bits; `None` if
/// the address is of another family.
fn dnat_to(destination: SocketAddr, family: Family) -> Option<[Expr; 3]> {
    (Family::of(&destination.ip()) == family).then_some(())?;
    let port = Register::after(WIDE_LEN, 2)?;
    let load = |to, value: Value| {
        let value = value.encode().ok()?;
        Some(Expr::Immediate { to, value })
    };
    Some([
        load(Register::FIRST, Value::Address(destination.ip()))?,
        load(port, Value::Port(destination.port()))?,
        Expr::Dnat {
            family: u32::from(TableFamily::from(family).number()),
            address: Register::FIRST,
            port,
            flags: 0,
        },
    ])
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
            Self::EtherSource => 6,
            Self::Protocol | Self::Icmpv6Type => 1,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::{Match, Operator};

    fn lower_one(statement: Statement, family: Family) -> Result<Vec<Expr>, Invalid> {
        lower(
            &Rule {
                statements: vec![statement],
                comment: None,
            },
            family,
        )
    }

    fn compare(field: Field, operator: Operator) -> Statement {
        Statement::Match(Match { field, operator })
    }

    #[test]
    fn what_can_not_be_compared_is_refused() {
        let address = |text: &str| text.parse().map(Value::Address).map(Operator::Is);
        let network = |text: &str| text.parse().map(Value::Network).map(Operator::IsNot);
        let comparisons = [
            (Field::SourceAddress, address("fd00::1").ok()),
            (Field::DestinationAddress, network("fd00::/8").ok()),
            (Field::DestinationPort, network("10.0.0.0/8").ok()),
            (Field::DestinationPort, Some(Operator::Is(Value::Mark(80)))),
            (
                Field::Random { modulus: 2 },
                Some(Operator::Is(Value::Mark(1))),
            ),
            (Field::Protocol, Some(Operator::HasAny(1))),
            (Field::CtState, Some(Operator::Is(Value::Number(1)))),
            (Field::SourceAddress, Some(Operator::IsLocal)),
        ];
        for (field, operator) in comparisons {
            let statement = operator.map(|operator| compare(field, operator));
            let lowered = statement.map(|statement| lower_one(statement, Family::V4));
            assert!(
                matches!(lowered, Some(Err(Invalid::Comparison(_)))),
                "{field:?}: {lowered:?}"
            );
        }
    }

    #[test]
    fn more_fields_than_registers_are_refused() {
        let pair = |count| Statement::InSet {
            fields: vec![Field::SourceAddress; count],
            negated: false,
            set: "s".into(),
        };
        assert!(lower_one(pair(4), Family::V6).is_ok());
        let refused = Invalid::Registers(
            "ip6 saddr . ip6 saddr . ip6 saddr . ip6 saddr . ip6 saddr @s".into(),
        );
        assert_eq!(lower_one(pair(5), Family::V6), Err(refused));
        assert!(lower_one(pair(16), Family::V4).is_ok());
    }

    #[test]
    fn comments_that_nft_can_not_read_back_are_refused() {
        for comment in ["x".repeat(129), "say \"no\"".into(), "two\nlines".into()] {
            let rule = Rule {
                statements: vec![Statement::Counter],
                comment: Some(comment.clone()),
            };
            assert_eq!(lower(&rule, Family::V4), Err(Invalid::Comment(comment)));
        }
    }

    #[test]
    fn only_the_bits_under_the_mask_are_set() {
        let bits = |mask, bits| lower_one(Statement::SetMark { mask, bits }, Family::V4);
        assert_eq!(bits(0x4000, 0xffff), bits(0x4000, 0x4000));
        assert_ne!(bits(0x4000, 0x4000), bits(0x4000, 0));
    }
}
