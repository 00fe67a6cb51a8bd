//! Register expressions: what the kernel makes of rules.
//!
//! A rule is a list of small instructions that load fields of the packet into registers, compare
//! them and act: `linux/netfilter/nf_tables.h`, `net/netfilter/nft_*.c`.

mod attribute;
mod decode;
mod encode;
mod number;
mod register;

pub(super) use decode::decode;
pub(super) use encode::encode;
pub use register::Register;

use super::Verdict;

/// One instruction of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// Loads a part of the packet.
    Payload {
        /// Where the offset counts from.
        header: Header,
        /// In bytes.
        offset: u32,
        /// In bytes.
        len: u32,
        /// Where it goes.
        to: Register,
    },
    /// Loads something known about the packet.
    Meta {
        /// What.
        key: MetaKey,
        /// Where it goes.
        to: Register,
    },
    /// Sets something about the packet.
    SetMeta {
        /// What.
        key: MetaKey,
        /// Where the value is.
        from: Register,
    },
    /// Loads something of the packet's connection.
    Ct {
        /// What.
        key: CtKey,
        /// Where it goes.
        to: Register,
    },
    /// Ends the rule unless a register is (not) equal to a constant.
    Compare {
        /// What is compared.
        from: Register,
        /// Ends the rule unless it is different.
        negated: bool,
        /// With what.
        value: Vec<u8>,
    },
    /// `to = (from & mask) ^ xor`.
    Bitwise {
        /// The operand.
        from: Register,
        /// Where the result goes.
        to: Register,
        /// As long as the operand.
        mask: Vec<u8>,
        /// As long as the operand.
        xor: Vec<u8>,
    },
    /// Ends the rule unless registers are (not) a key of a set; gets what a map maps them to.
    Lookup {
        /// The set's name.
        set: String,
        /// The first register of the key.
        key: Register,
        /// What becomes of a map's data.
        to: LookupTarget,
        /// Ends the rule unless the key is absent.
        negated: bool,
    },
    /// Changes a map by what registers hold.
    DynSet {
        /// The map's name.
        map: String,
        /// What is done.
        operation: DynSetOperation,
        /// The first register of the key.
        key: Register,
        /// The first register of the data.
        data: Register,
        /// How long the element stays, in milliseconds; 0: as long as the map says.
        timeout: u64,
    },
    /// Loads a random number below a modulus, in host byte order.
    Random {
        /// One more than the largest number.
        modulus: u32,
        /// Where it goes.
        to: Register,
    },
    /// Loads a constant.
    Immediate {
        /// Where it goes.
        to: Register,
        /// As it is in memory.
        value: Vec<u8>,
    },
    /// Decides.
    Verdict(Verdict),
    /// Translates the destination.
    Dnat {
        /// `NFPROTO_IPV4` or `NFPROTO_IPV6`.
        family: u32,
        /// Where the new address is.
        address: Register,
        /// Where the new port is.
        port: Register,
        /// `NF_NAT_RANGE_*` beyond those that the registers imply.
        flags: u32,
    },
    /// Translates the source to an address of the outgoing interface.
    Masquerade {
        /// `NF_NAT_RANGE_*`.
        flags: u32,
    },
    /// Answers by an ICMP error.
    Reject {
        /// `NFT_REJECT_*`.
        kind: u32,
        /// The ICMP code.
        code: u8,
    },
    /// Loads the routing type of an address (`RTN_*`), in host byte order.
    FibType {
        /// Of the source rather than the destination.
        source: bool,
        /// Where it goes.
        to: Register,
    },
    /// Ends the rule unless a register is between two constants, both included, of the packet's byte order.
    Range {
        /// What is compared.
        from: Register,
        /// The least.
        first: Vec<u8>,
        /// The greatest.
        last: Vec<u8>,
    },
    /// What an extension of iptables does (`nft_compat`).
    Extension {
        /// Whether it matches or acts.
        kind: ExtensionKind,
        /// Its name, as `statistic` or `DNAT`.
        name: String,
        /// The revision of its structure.
        revision: u32,
        /// Its structure (`linux/netfilter/xt_*.h`), as it is in memory.
        info: Vec<u8>,
    },
    /// Counts.
    Counter,
    /// An expression that rules of ours don't have: its name.
    Foreign(String),
}

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

/// What is known about a packet: `enum nft_meta_keys`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaKey {
    /// `meta mark`.
    Mark = 3,
    /// `meta iifname`.
    InputName = 6,
    /// `meta oifname`.
    OutputName = 7,
    /// `meta nfproto`.
    Family = 15,
    /// `meta l4proto`.
    Protocol = 16,
}

/// What is known about a connection: `enum nft_ct_keys`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CtKey {
    /// `ct state`.
    State = 0,
    /// `ct status`.
    Status = 2,
}

/// What a rule does to an element of a map: `enum nft_dynset_ops`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DynSetOperation {
    /// `update`: adds it; one that exists keeps its data and stays for another while.
    Update = 1,
    /// `delete`.
    Delete = 2,
}

/// What becomes of the data that a map has for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupTarget {
    /// There is none: a set.
    Nothing,
    /// It is the verdict.
    Verdict,
    /// It is loaded.
    Register(Register),
}

/// What an extension of iptables is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtensionKind {
    /// `match`: ends the rule unless the packet is as it says.
    Match,
    /// `target`: does something with the packet.
    Target,
}

// === impl ExtensionKind ===

impl ExtensionKind {
    const ALL: [Self; 2] = [Self::Match, Self::Target];

    /// The expression's name to the kernel.
    const fn name(self) -> &'static str {
        match self {
            Self::Match => "match",
            Self::Target => "target",
        }
    }
}

// === impl MetaKey ===

impl MetaKey {
    const ALL: [Self; 5] = [
        Self::Mark,
        Self::InputName,
        Self::OutputName,
        Self::Family,
        Self::Protocol,
    ];
}

// === impl CtKey ===

impl CtKey {
    const ALL: [Self; 2] = [Self::State, Self::Status];
}

// === impl DynSetOperation ===

impl DynSetOperation {
    const ALL: [Self; 2] = [Self::Update, Self::Delete];
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::nft::wire::View;

    fn register(word: usize) -> Register {
        Register::after(word * 4, 4).unwrap()
    }

    fn every_kind() -> Vec<Expr> {
        vec![
            Expr::Payload {
                header: Header::Network,
                offset: 16,
                len: 4,
                to: register(0),
            },
            Expr::Meta {
                key: MetaKey::Protocol,
                to: register(1),
            },
            Expr::SetMeta {
                key: MetaKey::Mark,
                from: register(4),
            },
            Expr::Ct {
                key: CtKey::Status,
                to: register(0),
            },
            Expr::Compare {
                from: register(0),
                negated: true,
                value: vec![1, 2, 3],
            },
            Expr::Bitwise {
                from: register(0),
                to: register(5),
                mask: vec![1; 4],
                xor: vec![0; 4],
            },
            Expr::Lookup {
                set: "a".into(),
                key: register(0),
                to: LookupTarget::Verdict,
                negated: false,
            },
            Expr::Lookup {
                set: "b".into(),
                key: register(0),
                to: LookupTarget::Nothing,
                negated: true,
            },
            Expr::Lookup {
                set: "c".into(),
                key: register(15),
                to: LookupTarget::Register(register(8)),
                negated: false,
            },
            Expr::Random {
                modulus: 3,
                to: register(3),
            },
            Expr::Verdict(Verdict::Goto("somewhere".into())),
            Expr::Verdict(Verdict::Return),
            Expr::Immediate {
                to: register(4),
                value: vec![0, 80],
            },
            Expr::Dnat {
                family: 2,
                address: register(0),
                port: register(1),
                flags: 16,
            },
            Expr::Masquerade { flags: 16 },
            Expr::Masquerade { flags: 0 },
            Expr::Reject { kind: 0, code: 3 },
            Expr::FibType {
                source: true,
                to: register(0),
            },
            Expr::Counter,
            Expr::Range {
                from: register(0),
                first: vec![0, 80],
                last: vec![0, 90],
            },
            Expr::Extension {
                kind: ExtensionKind::Match,
                name: "comment".into(),
                revision: 0,
                info: vec![7; 256],
            },
            Expr::Extension {
                kind: ExtensionKind::Target,
                name: "DNAT".into(),
                revision: 2,
                info: vec![3; 48],
            },
            Expr::DynSet {
                map: "d".into(),
                operation: DynSetOperation::Update,
                key: register(0),
                data: register(2),
                timeout: 10_800_000,
            },
            Expr::DynSet {
                map: "e".into(),
                operation: DynSetOperation::Delete,
                key: register(1),
                data: register(4),
                timeout: 0,
            },
        ]
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for expr in every_kind() {
            let bytes = encode(&expr).finish().unwrap();
            assert_eq!(decode(View::new(&bytes)), expr);
        }
    }

    #[test]
    fn what_is_cut_off_can_be_decoded() {
        for expr in every_kind() {
            let bytes = encode(&expr).finish().unwrap();
            for cut in 0..bytes.len() {
                drop(decode(View::new(&bytes[..cut])));
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_can_be_decoded(bytes: Vec<u8>) {
            drop(decode(View::new(&bytes)));
        }

        #[test]
        fn any_damage_can_be_decoded(kind in 0usize..24, place: proptest::sample::Index, byte: u8) {
            let mut bytes = encode(&every_kind()[kind]).finish().unwrap();
            *place.get_mut(&mut bytes) = byte;
            drop(decode(View::new(&bytes)));
        }
    }
}
