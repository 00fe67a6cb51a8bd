//! The two ways that iptables has into the kernel, and which of them a node uses.

use std::fmt;

use super::{Error, Iptables, Result};
use crate::Family;

/// Chains that kubelet makes in the table `mangle`, for others to see which way it uses (KEP-3178).
const HINTS: [&str; 2] = ["KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY"];

/// A way into the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// nf_tables.
    Nft,
    /// The older tables.
    Legacy,
}

/// What there is by one of the ways.
struct Found {
    hint: bool,
    rules: usize,
}

// === impl Backend ===

impl Backend {
    /// Both ways, the newer first.
    pub const ALL: [Self; 2] = [Self::Nft, Self::Legacy];

    pub(super) const fn infix(self) -> &'static str {
        match self {
            Self::Nft => "-nft",
            Self::Legacy => "-legacy",
        }
    }

    /// What `iptables --version` says; versions before 1.8 say nothing and are legacy.
    pub(super) fn of_version(text: &str) -> Self {
        if text.contains("nf_tables") {
            Self::Nft
        } else {
            Self::Legacy
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nft => "iptables (nf_tables)",
            Self::Legacy => "iptables (legacy)",
        })
    }
}

// === impl Found ===

impl Found {
    /// What the programs of a way print for both families. A program that is missing or that the
    /// kernel refuses has no rules.
    fn by(backend: Backend) -> Result<Option<Self>> {
        let mut found: Option<Self> = None;
        for family in Family::ALL {
            let text = match Iptables::find(family, backend).and_then(|it| it.save_all()) {
                Ok(text) => text,
                Err(Error::Refused { .. }) => String::new(),
                Err(Error::Missing { .. }) => continue,
                Err(error) => return Err(error),
            };
            let before = found.unwrap_or(Self {
                hint: false,
                rules: 0,
            });
            found = Some(Self {
                hint: before.hint || text.lines().any(is_hint),
                rules: before.rules + text.lines().filter(|it| it.starts_with('-')).count(),
            });
        }
        Ok(found)
    }
}

/// The way that the node uses, decided as the wrapper in kube-proxy's image decides: kubelet's hint by
/// nf_tables, by legacy, then whichever has more rules, nf_tables if they are equal.
///
/// # Errors
/// [`Error::Missing`] if there is no iptables at all.
pub fn in_use() -> Result<Backend> {
    match (Found::by(Backend::Nft)?, Found::by(Backend::Legacy)?) {
        (Some(nft), Some(legacy)) => Ok(choose(&nft, &legacy)),
        (Some(_), None) => Ok(Backend::Nft),
        (None, Some(_)) => Ok(Backend::Legacy),
        (None, None) => Err(Error::Missing {
            command: "iptables-save".into(),
        }),
    }
}

fn choose(nft: &Found, legacy: &Found) -> Backend {
    if !nft.hint && (legacy.hint || legacy.rules > nft.rules) {
        Backend::Legacy
    } else {
        Backend::Nft
    }
}

fn is_hint(line: &str) -> bool {
    let mut words = line.strip_prefix(':').unwrap_or_default().split(' ');
    words.next().is_some_and(|name| HINTS.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_come_before_numbers_and_nft_before_legacy() {
        use Backend::{Legacy, Nft};
        for (nft, legacy, expected) in [
            ((false, 0), (false, 0), Nft),
            ((false, 1), (false, 2), Legacy),
            ((false, 2), (false, 2), Nft),
            ((true, 0), (false, 9), Nft),
            ((false, 9), (true, 0), Legacy),
            ((true, 0), (true, 9), Nft),
        ] {
            let found = |(hint, rules)| Found { hint, rules };
            assert_eq!(choose(&found(nft), &found(legacy)), expected);
        }
    }

    #[test]
    fn hints_are_chains_of_that_name() {
        assert!(is_hint(":KUBE-IPTABLES-HINT - [0:0]"));
        assert!(!is_hint(":KUBE-IPTABLES-HINTS - [0:0]"));
        assert!(!is_hint("-A KUBE-IPTABLES-HINT -j DROP"));
    }
}
