//! Chains that let in connections from some networks only: one for each different list, whatever the number
//! of Services that have it.

use std::hash::Hasher;

use ipnetwork::IpNetwork;
use kernel::nft::{Chain, Field, Match, Operator, Rule, Statement, Value, Verdict};

/// FNV-1a with 64 bits, which says the same in every release.
struct Fnv(u64);

// === impl Fnv ===

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The name of the chain for a list, the same for the same list.
pub fn chain_name(sources: &[IpNetwork]) -> String {
    let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
    for network in sources {
        hash.write(format!("{network} ").as_bytes());
    }
    format!("sources-{:016x}", hash.finish())
}

/// The chain for a list. The connection goes on if it is from one of the networks.
pub fn chain(sources: &[IpNetwork]) -> Chain {
    let allow = sources.iter().map(|network| Rule {
        statements: vec![
            Statement::Match(Match {
                field: Field::SourceAddress,
                operator: Operator::Is(Value::Network(*network)),
            }),
            Statement::Verdict(Verdict::Return),
        ],
        comment: None,
    });
    let drop = Rule {
        statements: vec![Statement::Verdict(Verdict::Drop)],
        comment: None,
    };
    Chain {
        base: None,
        rules: allow.chain([drop]).collect(),
    }
}
