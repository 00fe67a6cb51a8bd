//! Transactions as the text that `nft -f -` takes.
//!
//! nft takes names of chains and sets for its own words where they are the same: a chain `reject` can be
//! made by [`Handle`](super::Handle), but not by this text.

use std::{fmt, net::IpAddr};

use super::{
    BaseChain, Data, DataType, Element, Field, Key, Match, Operator, Rule, Set, SetData, Statement,
    Transaction, Value, Verdict,
    wire::{Step, steps},
};
use crate::Family;

/// Elements that [`StepText`] prints of a longer list when it is to be short.
const SHORT: usize = 3;

/// Something whose words depend on the family of the table.
pub(super) struct InFamily<'a, T: ?Sized>(pub &'a T, pub Family);

/// One command as text, about a table.
pub(super) struct StepText<'a> {
    pub family: Family,
    pub table: &'a str,
    pub step: &'a Step<'a>,
    /// Leave the most of many elements out, as an error message should.
    pub short: bool,
}

// === impl Transaction ===

impl fmt::Display for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        steps(self).iter().try_for_each(|step| {
            let text = StepText {
                family: self.family,
                table: &self.table,
                step,
                short: false,
            };
            writeln!(f, "{text}")
        })
    }
}

// === impl StepText ===

impl fmt::Display for StepText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = format_args!("{} {}", family_name(self.family), self.table);
        match self.step {
            Step::AddTable => write!(f, "add table {table}"),
            Step::DeleteTable => write!(f, "delete table {table}"),
            Step::AddChain(name, None) => write!(f, "add chain {table} {name}"),
            Step::AddChain(name, Some(base)) => write!(f, "add chain {table} {name} {base}"),
            Step::FlushChain(name) => write!(f, "flush chain {table} {name}"),
            Step::DeleteChain(name) => write!(f, "delete chain {table} {name}"),
            Step::AddRule(chain, rule) => {
                write!(
                    f,
                    "add rule {table} {chain}{}",
                    InFamily(*rule, self.family)
                )
            }
            Step::AddSet(name, set) => {
                let kind = if set.data.is_some() { "map" } else { "set" };
                write!(f, "add {kind} {table} {name} {}", Definition(set))
            }
            Step::DeleteSet(name) => write!(f, "delete set {table} {name}"),
            Step::AddElements(set, elements) => {
                write!(f, "add element {table} {set} ")?;
                self.braced(f, elements, |(key, element)| ElementText {
                    key,
                    element: Some(element),
                })
            }
            Step::DeleteElements(set, keys) => {
                write!(f, "delete element {table} {set} ")?;
                self.braced(f, keys, |key| ElementText { key, element: None })
            }
        }
    }
}

impl StepText<'_> {
    fn braced<'b, T>(
        &self,
        f: &mut fmt::Formatter<'_>,
        items: &'b [T],
        text: impl Fn(&'b T) -> ElementText<'b>,
    ) -> fmt::Result {
        let shown = if self.short && items.len() > SHORT {
            SHORT
        } else {
            items.len()
        };
        f.write_str("{ ")?;
        separated(f, ", ", items.iter().take(shown).map(text))?;
        match items.len() - shown {
            0 => f.write_str(" }"),
            more => write!(f, ", and {more} more }}"),
        }
    }
}

// === impl BaseChain ===

impl fmt::Display for BaseChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{{ type {} hook {} priority {}; policy {}; }}",
            self.kind.name(),
            self.hook.name(),
            self.priority,
            self.policy.name()
        )
    }
}

/// What stands between the braces of `add set`.
struct Definition<'a>(&'a Set);

// === impl Definition ===

impl fmt::Display for Definition<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = self.0;
        let by_expression = set.needs_typeof();
        let types = |types: &[DataType]| {
            let names = types.iter().map(|kind| {
                if by_expression {
                    kind.expression()
                } else {
                    kind.name()
                }
            });
            names.collect::<Vec<_>>().join(" . ")
        };
        write!(
            f,
            "{{ {} {}",
            if by_expression { "typeof" } else { "type" },
            types(&set.key)
        )?;
        match &set.data {
            None => {}
            Some(SetData::Verdict) => f.write_str(" : verdict")?,
            Some(SetData::Value(values)) => write!(f, " : {}", types(values))?,
        }
        f.write_str("; ")?;
        if set.size > 0 {
            write!(f, "size {}; ", set.size)?;
        }
        if set.interval {
            f.write_str("flags interval; ")?;
        }
        if let Some(comment) = &set.comment {
            write!(f, "comment \"{comment}\"; ")?;
        }
        f.write_str("}")
    }
}

// === impl DataType ===

impl DataType {
    const fn name(self) -> &'static str {
        match self {
            Self::Ipv4Addr => "ipv4_addr",
            Self::Ipv6Addr => "ipv6_addr",
            Self::InetProto => "inet_proto",
            Self::InetService => "inet_service",
            Self::Mark => "mark",
            Self::Number => "integer",
            Self::IfName => "ifname",
        }
    }

    /// An expression of this type, for `typeof`.
    const fn expression(self) -> &'static str {
        match self {
            Self::Ipv4Addr => "ip daddr",
            Self::Ipv6Addr => "ip6 daddr",
            Self::InetProto => "meta l4proto",
            Self::InetService => "th dport",
            Self::Mark => "meta mark",
            Self::Number => "numgen random mod 4294967295",
            Self::IfName => "iifname",
        }
    }
}

struct ElementText<'a> {
    key: &'a Key,
    element: Option<&'a Element>,
}

// === impl ElementText ===

impl fmt::Display for ElementText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        separated(f, " . ", self.key)?;
        let Some(element) = self.element else {
            return Ok(());
        };
        if let Some(comment) = &element.comment {
            write!(f, " comment \"{comment}\"")?;
        }
        match &element.data {
            None => Ok(()),
            Some(Data::Verdict(verdict)) => write!(f, " : {verdict}"),
            Some(Data::Value(values)) => {
                f.write_str(" : ")?;
                separated(f, " . ", values)
            }
        }
    }
}

// === impl Value ===

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Network(network) => write!(f, "{}/{}", network.network(), network.prefix()),
            Self::Protocol(protocol) => match protocol {
                6 => f.write_str("tcp"),
                17 => f.write_str("udp"),
                132 => f.write_str("sctp"),
                other => write!(f, "{other}"),
            },
            Self::Port(port) => write!(f, "{port}"),
            Self::Mark(mark) => write!(f, "{mark:#010x}"),
            Self::Number(number) => write!(f, "{number}"),
            // An asterisk at the end would stand for any name that begins so.
            Self::IfName(name) => write!(f, "\"{}\"", name.as_str().replace('*', "\\*")),
        }
    }
}

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
                write!(f, "dnat {} to {fields} map @{map}", family_name(family))
            }
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
        let field = InFamily(&comparison.field, family);
        match &comparison.operator {
            Operator::Is(Value::Network(network)) if network.prefix() == 0 => {
                let any = unspecified(family);
                write!(f, "{field} & {any} == {any}")
            }
            Operator::IsNot(Value::Network(network)) if network.prefix() == 0 => {
                let any = unspecified(family);
                write!(f, "{field} & {any} != {any}")
            }
            Operator::Is(value) => write!(f, "{field} {value}"),
            Operator::IsNot(value) => write!(f, "{field} != {value}"),
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

impl fmt::Display for InFamily<'_, Field> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = family_name(self.1);
        match self.0 {
            Field::SourceAddress => write!(f, "{family} saddr"),
            Field::DestinationAddress => write!(f, "{family} daddr"),
            Field::Protocol => f.write_str("meta l4proto"),
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

/// nft makes one instruction of both operations, as [`lower`](super::lower) does.
fn set_mark(f: &mut fmt::Formatter<'_>, mask: u32, bits: u32) -> fmt::Result {
    write!(
        f,
        "meta mark set meta mark & {:#010x} ^ {bits:#010x}",
        !mask
    )
}

const fn family_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

const fn unspecified(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
    }
}

fn separated<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    separator: &str,
    items: impl IntoIterator<Item = T>,
) -> fmt::Result {
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            f.write_str(separator)?;
        }
        write!(f, "{item}")?;
    }
    Ok(())
}
