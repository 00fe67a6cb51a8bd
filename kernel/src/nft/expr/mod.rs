//! Register expressions: what the kernel makes of rules.
//!
//! A rule is a list of small instructions that load fields of the packet into registers, compare
//! them and act: `linux/netfilter/nf_tables.h`, `net/netfilter/nft_*.c`.
//!
//! Each kind has a file of its own, with its attributes, both ways, and samples that the tests here try. A new one
//! wants such a file, a variant of [`Expr`], a line in each of `encode` and `decode`, and one in `samples`.

mod bitwise;
mod compare;
mod constant;
mod ct;
mod decode;
mod dynset;
mod encode;
mod extension;
mod fib;
mod immediate;
mod lookup;
mod masquerade;
mod meta;
mod nat;
mod numgen;
mod payload;
mod range;
mod register;
mod reject;

pub use ct::CtKey;
pub(super) use decode::decode;
pub use dynset::DynSetOperation;
pub(super) use encode::encode;
pub use extension::ExtensionKind;
pub use lookup::LookupTarget;
pub use meta::MetaKey;
pub use payload::Header;
pub use register::Register;

use super::Verdict;

/// `NFTA_EXPR_NAME`, `NFTA_EXPR_DATA`.
const NAME: u16 = 1;
const CONTENT: u16 = 2;

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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::nft::wire::View;

    fn samples() -> Vec<Expr> {
        let mut samples = vec![Expr::Counter];
        for of_a_kind in [
            payload::samples,
            meta::samples,
            ct::samples,
            compare::samples,
            bitwise::samples,
            lookup::samples,
            dynset::samples,
            numgen::samples,
            immediate::samples,
            nat::samples,
            masquerade::samples,
            reject::samples,
            fib::samples,
            range::samples,
            extension::samples,
        ] {
            samples.extend(of_a_kind());
        }
        samples
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for expr in samples() {
            let bytes = encode(&expr).finish().unwrap();
            assert_eq!(decode(View::new(&bytes)), expr);
        }
    }

    #[test]
    fn what_is_cut_off_can_be_decoded() {
        for expr in samples() {
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
        fn any_damage_can_be_decoded(
            expr in proptest::sample::select(samples()),
            place: proptest::sample::Index,
            byte: u8,
        ) {
            let mut bytes = encode(&expr).finish().unwrap();
            *place.get_mut(&mut bytes) = byte;
            drop(decode(View::new(&bytes)));
        }
    }
}
