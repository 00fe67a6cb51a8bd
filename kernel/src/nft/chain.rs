//! Chains and rules.

use super::Statement;

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

/// `hook` of a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// `prerouting`.
    Prerouting,
    /// `input`.
    Input,
    /// `forward`.
    Forward,
    /// `output`.
    Output,
    /// `postrouting`.
    Postrouting,
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
    /// `comment "..."`; at most 128 bytes.
    pub comment: Option<String>,
}
