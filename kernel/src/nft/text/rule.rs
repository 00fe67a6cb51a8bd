//! Rules.

use std::{fmt, net::IpAddr, time::Duration};

use super::separated;
use crate::{
    Family,
    nft::{Field, Match, Operator, Rule, Statement, TableFamily, Term, Value, Verdict},
};

/// Something whose words depend on the family of the table.
pub(in crate::nft) struct InFamily<'a, T: ?Sized>(pub &'a T, pub TableFamily);

/// A time in whole seconds or milliseconds.
struct Time(Duration);

// === impl Verdict ===

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Return => f.write_str("return"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

// === impl Time ===

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.subsec_millis() {
            0 => write!(f, "{}s", self.0.as_secs()),
            _ => write!(f, "{}ms", self.0.as_millis()),
        }
    }
}

// === impl InFamily ===

impl fmt::Display for InFamily<'_, Rule> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(rule, family) = *self;
        for statement in &rule.statements {
            write!(f, " {}", InFamily(statement, family))?;
        }
        match &rule.comment {
            Some(comment) => write!(f, " comment \"{comment}\""),
            None => Ok(()),
        }
    }
}

impl fmt::Display for InFamily<'_, Statement> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(statement, family) = *self;
        match statement {
            Statement::Match(comparison) => write!(f, "{}", InFamily(comparison, family)),
            Statement::InSet {
                fields,
                negated,
                set,
            } => {
                let negation = if *negated { "!= " } else { "" };
                write!(
                    f,
                    "{} {negation}@{set}",
                    InFamily(fields.as_slice(), family)
                )
            }
            Statement::VerdictMap { fields, map } => {
                write!(f, "{} vmap @{map}", InFamily(fields.as_slice(), family))
            }
            Statement::DnatMap { fields, map } => {
                let fields = InFamily(fields.as_slice(), family);
                write!(f, "dnat {family} to {fields} map @{map}")
            }
            Statement::DnatTerms { key, map } => {
                let key = InFamily(key.as_slice(), family);
                write!(f, "dnat {family} to {key} map @{map}")
            }
            Statement::Update {
                map,
                key,
                data,
                timeout,
            } => {
                let key = InFamily(key.as_slice(), family);
                let (data, timeout) = (InFamily(data, family), Time(*timeout));
                write!(
                    f,
                    "update @{map} {{ {key} timeout {timeout} : 0 . {data} }}"
                )
            }
            Statement::Delete { map, key } => {
                let key = InFamily(key.as_slice(), family);
                write!(f, "delete @{map} {{ {key} : meta mark . meta mark }}")
            }
            Statement::Dnat(destination) => write!(f, "dnat to {destination}"),
            Statement::Masquerade {
                fully_random: false,
            } => f.write_str("masquerade"),
            Statement::Masquerade { fully_random: true } => f.write_str("masquerade fully-random"),
            Statement::SetMark { mask, bits } => set_mark(f, *mask, bits & mask),
            Statement::Reject => f.write_str("reject"),
            Statement::Counter => f.write_str("counter"),
            Statement::Verdict(verdict) => write!(f, "{verdict}"),
        }
    }
}

impl fmt::Display for InFamily<'_, Match> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(comparison, family) = *self;
        // A table of both families says at each address which one it is of.
        let packets = family.of_packets().or(comparison.family());
        let field = InFamily(&comparison.field, packets.map_or(family, TableFamily::from));
        match &comparison.operator {
            Operator::Is(Value::Network(network)) if network.prefix() == 0 => {
                let any = unspecified(Family::of_network(network));
                write!(f, "{field} & {any} == {any}")
            }
            Operator::IsNot(Value::Network(network)) if network.prefix() == 0 => {
                let any = unspecified(Family::of_network(network));
                write!(f, "{field} & {any} != {any}")
            }
            Operator::Is(value) => write!(f, "{field} {value}"),
            Operator::IsNot(value) => write!(f, "{field} != {value}"),
            Operator::StartsWith(name) => write!(f, "{field} {}", prefix(name)),
            Operator::StartsNotWith(name) => write!(f, "{field} != {}", prefix(name)),
            Operator::HasAny(bits) => write!(f, "{field} & {bits:#010x} != 0"),
            Operator::HasNone(bits) => write!(f, "{field} & {bits:#010x} == 0"),
            Operator::IsLocal => write!(f, "{field} local"),
            Operator::IsNotLocal => write!(f, "{field} != local"),
        }
    }
}

impl fmt::Display for InFamily<'_, [Field]> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        separated(f, " . ", self.0.iter().map(|field| InFamily(field, self.1)))
    }
}

impl fmt::Display for InFamily<'_, [Term]> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        separated(f, " . ", self.0.iter().map(|term| InFamily(term, self.1)))
    }
}

/// A map within a key is in parentheses, which nft does not take: it has no words for that.
impl fmt::Display for InFamily<'_, Term> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Term::Field(field) => InFamily(field, self.1).fmt(f),
            Term::Mapped { key, map } => {
                write!(f, "({} map @{map})", InFamily(key.as_slice(), self.1))
            }
        }
    }
}

impl fmt::Display for InFamily<'_, Field> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = self.1;
        match self.0 {
            Field::SourceAddress => write!(f, "{family} saddr"),
            Field::DestinationAddress => write!(f, "{family} daddr"),
            Field::EtherSource => f.write_str("ether saddr"),
            Field::Protocol => f.write_str("meta l4proto"),
            Field::Icmpv6Type => f.write_str("icmpv6 type"),
            Field::SourcePort => f.write_str("th sport"),
            Field::DestinationPort => f.write_str("th dport"),
            Field::Mark => f.write_str("meta mark"),
            Field::InputInterface => f.write_str("iifname"),
            Field::OutputInterface => f.write_str("oifname"),
            Field::CtState => f.write_str("ct state"),
            Field::CtStatus => f.write_str("ct status"),
            Field::SourceType => f.write_str("fib saddr type"),
            Field::DestinationType => f.write_str("fib daddr type"),
            Field::Random { modulus } => write!(f, "numgen random mod {modulus}"),
        }
    }
}

/// The beginning of an interface name, in quotation marks.
fn prefix(name: &crate::IfName) -> String {
    format!("\"{}*\"", name.as_str().replace('*', "\\*"))
}

/// nft makes one instruction of both operations, as [`lower`](super::lower) does.
fn set_mark(f: &mut fmt::Formatter<'_>, mask: u32, bits: u32) -> fmt::Result {
    write!(
        f,
        "meta mark set meta mark & {:#010x} ^ {bits:#010x}",
        !mask
    )
}

const fn unspecified(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
    }
}
