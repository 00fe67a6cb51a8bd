//! Chains and rules.

use super::{Expr, Statement};

/// A chain: rules in their order, and where the kernel calls it if it does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Where the kernel calls it; `None` for a chain that is only jumped to.
    pub base: Option<BaseChain>,
    /// Its rules in the order of evaluation.
    pub rules: Vec<Rule>,
}

/// Where in the stack the kernel calls a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BaseChain {
    /// Chain type.
    pub kind: ChainKind,
    /// Hook.
    pub hook: Hook,
    /// Order among the chains of the hook, lower first (`dstnat` -100, `filter` 0, `srcnat` 100).
    pub priority: i32,
    /// What happens to packets that reach the end.
    pub policy: Policy,
}

/// `type` of a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainKind {
    /// `filter`.
    Filter,
    /// `nat`: called for the first packet of a connection.
    Nat,
    /// `route`: a changed mark leads to a new route look-up.
    Route,
}

/// `hook` of a base chain: `enum nf_inet_hooks`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// `prerouting`.
    Prerouting = 0,
    /// `input`.
    Input = 1,
    /// `forward`.
    Forward = 2,
    /// `output`.
    Output = 3,
    /// `postrouting`.
    Postrouting = 4,
}

/// `policy` of a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// `accept`.
    Accept,
    /// `drop`.
    Drop,
}

/// A rule: statements in the order of evaluation, and a comment for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// What it matches and does.
    pub statements: Vec<Statement>,
    /// `comment "..."`; at most 128 bytes, without quotation marks and control characters.
    pub comment: Option<String>,
}

/// A rule in the kernel's own instructions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawRule {
    /// The instructions.
    pub expressions: Vec<Expr>,
    /// The IP protocol that it is for, which extensions of iptables want to know (`NFTA_RULE_COMPAT`).
    pub protocol: Option<u8>,
    /// `comment "..."`, as that of a [`Rule`]: the kernel keeps it, and does not look at it.
    pub comment: Option<String>,
    /// What people call it: that is all that is printed of it.
    pub text: String,
}

// === impl BaseChain ===

impl BaseChain {
    /// One that lets packets go on that reach its end.
    pub const fn accepting(kind: ChainKind, hook: Hook, priority: i32) -> Self {
        Self {
            kind,
            hook,
            priority,
            policy: Policy::Accept,
        }
    }
}

// === impl ChainKind ===

impl ChainKind {
    pub(super) const ALL: [Self; 3] = [Self::Filter, Self::Nat, Self::Route];

    /// Its name in nft(8) and to the kernel.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
            Self::Route => "route",
        }
    }
}

// === impl Hook ===

impl Hook {
    pub(super) const ALL: [Self; 5] = [
        Self::Prerouting,
        Self::Input,
        Self::Forward,
        Self::Output,
        Self::Postrouting,
    ];

    /// Its name in nft(8).
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Prerouting => "prerouting",
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
            Self::Postrouting => "postrouting",
        }
    }
}

// === impl Policy ===

impl Policy {
    /// Its name in nft(8).
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Drop => "drop",
        }
    }
}
