//! The two ways that iptables has into the kernel, and which of them a node uses.

use std::fmt;

use super::{Error, Iptables, Result};
use crate::Family;

/// The table in which kubelet makes chains for others to see which way it uses (KEP-3178).
const HINTED: &str = "mangle";
/// Those chains: where one of them is, kubelet is on the node.
pub const HINTS: [&str; 2] = ["KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY"];

/// A way into the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// nf_tables.
    Nft,
    /// The older tables.
    Legacy,
}

/// What there is by one of the ways.
#[derive(Clone, Copy, Default)]
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
    /// What the programs of a way print for both families, if there are any. What the kernel refuses has no rules.
    fn by(backend: Backend, save: impl Fn(&Iptables) -> Result<String>) -> Result<Option<Self>> {
        let mut found = None;
        for family in Family::ALL {
            let text = match Iptables::find(family, backend).and_then(|it| save(&it)) {
                Ok(text) => text,
                Err(Error::Refused { .. }) => String::new(),
                Err(Error::Missing { .. }) => continue,
                Err(error) => return Err(error),
            };
            found.get_or_insert_with(Self::default).add(&text);
        }
        Ok(found)
    }

    fn add(&mut self, text: &str) {
        self.hint |= text.lines().any(is_hint);
        self.rules += text.lines().filter(|it| it.starts_with('-')).count();
    }
}

/// The way that the node uses, decided as the wrapper in kube-proxy's image decides: kubelet's hint by
/// nf_tables, by legacy, then whichever has more rules, nf_tables if they are equal.
///
/// Most nodes have the hint, for which one table is read: all rules of 10,000 Services take seconds, and
/// `iptables-nft-save` 1.8.9 overflows its stack among them. The older programs make a table that is asked for by its
/// name, so that theirs are read as they are.
///
/// # Errors
/// [`Error::Missing`] if there is no iptables at all.
pub fn in_use() -> Result<Backend> {
    let hinted = Found::by(Backend::Nft, |it| it.save_text(HINTED))?;
    if hinted.is_some_and(|it| it.hint) {
        return Ok(Backend::Nft);
    }
    let [nft, legacy] = Backend::ALL.map(|backend| Found::by(backend, Iptables::save_all));
    match (nft?, legacy?) {
        (Some(nft), Some(legacy)) => Ok(choose(nft, legacy)),
        (Some(_), None) => Ok(Backend::Nft),
        (None, Some(_)) => Ok(Backend::Legacy),
        (None, None) => Err(Error::Missing {
            command: "iptables-save".into(),
        }),
    }
}

/// Where nf_tables has no hint.
fn choose(nft: Found, legacy: Found) -> Backend {
    if legacy.hint || legacy.rules > nft.rules {
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
    fn a_hint_comes_before_numbers_and_nft_before_legacy() {
        use Backend::{Legacy, Nft};
        for (nft, legacy, expected) in [
            (0, (false, 0), Nft),
            (1, (false, 2), Legacy),
            (2, (false, 2), Nft),
            (9, (true, 0), Legacy),
        ] {
            let found = |hint, rules| Found { hint, rules };
            let chosen = choose(found(false, nft), found(legacy.0, legacy.1));
            assert_eq!(chosen, expected);
        }
    }

    #[test]
    fn hints_are_chains_of_that_name() {
        assert!(is_hint(":KUBE-IPTABLES-HINT - [0:0]"));
        assert!(!is_hint(":KUBE-IPTABLES-HINTS - [0:0]"));
        assert!(!is_hint("-A KUBE-IPTABLES-HINT -j DROP"));
    }
}
