//! What rules are made of, in the words of nft(8).

use std::{net::SocketAddr, time::Duration};

use super::Value;
use crate::Family;

/// One statement of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// Goes on only if the packet matches.
    Match(Match),
    /// `FIELD . FIELD @set`: goes on only if the concatenated fields are (not) in a named set.
    InSet {
        /// The fields.
        fields: Vec<Field>,
        /// `!=`: goes on only if they are not.
        negated: bool,
        /// The set of the same table.
        set: String,
    },
    /// `FIELD . FIELD vmap @map`: does what a verdict map says, or goes on where the key is not in it.
    VerdictMap {
        /// The fields.
        fields: Vec<Field>,
        /// The verdict map of the same table.
        map: String,
    },
    /// `dnat to FIELD . FIELD map @map`: the new destination, address and port, from a map
    /// (`: ipv4_addr . inet_service`); goes on without a change where the key is not in it.
    DnatMap {
        /// The fields.
        fields: Vec<Field>,
        /// The map of the same table.
        map: String,
    },
    /// `dnat to KEY map @map`: as [`Self::DnatMap`], where the key has parts that maps say.
    DnatTerms {
        /// The parts of the key.
        key: Vec<Term>,
        /// The map of the same table.
        map: String,
    },
    /// `update @map { KEY timeout TIME : 0 . DATA }`: adds an element to a dynamic map (`: mark . mark`). One
    /// that exists keeps its data, and stays for the time from now on. Ends the rule where there is no room,
    /// or where a map has not what the key or the data are to be.
    Update {
        /// The dynamic map of the same table.
        map: String,
        /// The parts of the key.
        key: Vec<Term>,
        /// The second part of the data.
        data: Term,
        /// How long the element stays, in whole milliseconds.
        timeout: Duration,
    },
    /// `delete @map { KEY : ... }`: takes an element out of a dynamic map (`: mark . mark`), if it is there.
    Delete {
        /// The dynamic map of the same table.
        map: String,
        /// The parts of the key.
        key: Vec<Term>,
    },
    /// `dnat to ADDRESS:PORT`: a constant new destination, of the table's family.
    Dnat(SocketAddr),
    /// `masquerade`, with `fully-random` if so asked.
    Masquerade {
        /// Choose the source port at random.
        fully_random: bool,
    },
    /// `meta mark set meta mark & !MASK ^ BITS`: with `mask` 0x4000 and `bits` 0x4000 sets that bit, with
    /// `bits` 0 clears it.
    SetMark {
        /// The bits that are changed.
        mask: u32,
        /// What they become.
        bits: u32,
    },
    /// `reject`: port unreachable of the table's family.
    Reject,
    /// `counter`; what it has counted is not compared.
    Counter,
    /// Ends the evaluation, or goes on elsewhere.
    Verdict(Verdict),
}

/// A part of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Term {
    /// Something of the packet or its context.
    Field(Field),
    /// What a map (`: mark . mark`) has for a key of its own: the second mark; ends the rule where it has
    /// nothing.
    ///
    /// nft(8) has no words for a map within a key, and fails an assertion on a rule of the plain kind. It
    /// shows the packet's mark in this place, and takes that back when the listing is loaded; then it *is*
    /// the packet's mark, and no longer this.
    Mapped {
        /// The parts of the map's key.
        key: Vec<Term>,
        /// The map of the same table.
        map: String,
    },
}

/// A comparison of one field with constants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// The field.
    pub field: Field,
    /// How it is compared.
    pub operator: Operator,
}

/// How a field is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    /// Equal to a value, or inside a network.
    Is(Value),
    /// Not equal to a value, or outside a network.
    IsNot(Value),
    /// For [`Field::InputInterface`] and [`Field::OutputInterface`]: the name begins so (`"veth*"`).
    StartsWith(crate::IfName),
    /// The name does not begin so.
    StartsNotWith(crate::IfName),
    /// For [`Field::CtState`], [`Field::CtStatus`] and [`Field::Mark`]: any of the bits is set.
    HasAny(u32),
    /// For [`Field::CtState`], [`Field::CtStatus`] and [`Field::Mark`]: none of the bits is set.
    HasNone(u32),
    /// For [`Field::SourceType`] and [`Field::DestinationType`]: the address is one of this node's (`local`).
    IsLocal,
    /// The address is none of this node's.
    IsNotLocal,
}

/// Something of a packet or its context that can be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// `ip saddr` or `ip6 saddr`, by the table's family; in an `inet` table by that of the constant.
    SourceAddress,
    /// `ip daddr` or `ip6 daddr`, likewise.
    DestinationAddress,
    /// `ether saddr`, in tables of the bridge family.
    EtherSource,
    /// `meta l4proto`.
    Protocol,
    /// `icmpv6 type`, where [`Self::Protocol`] has been compared with that of ICMPv6 (58).
    Icmpv6Type,
    /// `th sport`.
    SourcePort,
    /// `th dport`.
    DestinationPort,
    /// `meta mark`.
    Mark,
    /// `meta iifname`.
    InputInterface,
    /// `meta oifname`.
    OutputInterface,
    /// `ct state`, compared by [`Operator::HasAny`] with bits of [`Field::CT_NEW`] and so on.
    CtState,
    /// `ct status`.
    CtStatus,
    /// `fib saddr type`.
    SourceType,
    /// `fib daddr type`.
    DestinationType,
    /// `numgen random mod MODULUS`: a random number below the modulus, of the type
    /// [`DataType::Number`](super::DataType::Number).
    Random {
        /// One more than the largest number.
        modulus: u32,
    },
}

/// What a rule or an element of a verdict map decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// `accept`.
    Accept,
    /// `drop`.
    Drop,
    /// `return`.
    Return,
    /// `jump CHAIN`.
    Jump(String),
    /// `goto CHAIN`.
    Goto(String),
}

// === impl Match ===

impl Match {
    /// The family of the address or network that a packet's address is compared with.
    pub(super) const fn family(&self) -> Option<Family> {
        match (self.field, &self.operator) {
            (
                Field::SourceAddress | Field::DestinationAddress,
                Operator::Is(value) | Operator::IsNot(value),
            ) => match value {
                Value::Address(address) => Some(Family::of(address)),
                Value::Network(network) => Some(Family::of_network(network)),
                _ => None,
            },
            _ => None,
        }
    }
}

// === impl Statement ===

impl Statement {
    /// Whether it means something only where all packets are of one family.
    pub(super) fn needs_family(&self) -> bool {
        match self {
            Self::Match(comparison) => comparison.field.is_address(),
            Self::InSet { fields, .. } | Self::VerdictMap { fields, .. } => {
                fields.iter().any(Field::is_address)
            }
            Self::Update { key, data, .. } => key.iter().chain([data]).any(Term::has_address),
            Self::Delete { key, .. } => key.iter().any(Term::has_address),
            Self::DnatMap { .. } | Self::DnatTerms { .. } | Self::Dnat(_) | Self::Reject => true,
            Self::Masquerade { .. } | Self::SetMark { .. } | Self::Counter | Self::Verdict(_) => {
                false
            }
        }
    }
}

// === impl Term ===

impl Term {
    /// Whether it is an address, or has one in its key.
    fn has_address(&self) -> bool {
        match self {
            Self::Field(field) => field.is_address(),
            Self::Mapped { key, .. } => key.iter().any(Self::has_address),
        }
    }
}

// === impl Field ===

impl Field {
    /// `ct state invalid`.
    pub const CT_INVALID: u32 = 1;
    /// `ct state established`.
    pub const CT_ESTABLISHED: u32 = 2;
    /// `ct state related`.
    pub const CT_RELATED: u32 = 4;
    /// `ct state new`.
    pub const CT_NEW: u32 = 8;
    /// `ct status dnat`.
    pub const CT_DNAT: u32 = 0x20;

    fn is_address(&self) -> bool {
        matches!(self, Self::SourceAddress | Self::DestinationAddress)
    }
}
