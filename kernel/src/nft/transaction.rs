//! Commands to nftables as a value.

use super::{Chain, Element, Key, RawRule, Rule, Set, TableFamily};

/// Commands that are carried out in their order, all or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// The family of the table that all commands are about.
    pub family: TableFamily,
    /// The name of the table that all commands are about.
    pub table: String,
    /// The commands.
    pub commands: Vec<Command>,
}

/// One command, about an object of the transaction's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `add table`: makes the table unless it exists.
    AddTable,
    /// `add table` with a comment, which a table that exists does not get.
    AddCommentedTable(String),
    /// `delete table`: with all that is in it; fails where it does not exist.
    DeleteTable,
    /// `add chain`, then its rules. A chain that exists must have the same hook and gets the policy; the rules
    /// are appended.
    AddChain(String, Chain),
    /// [`Self::AddChain`] with a comment (the last), which a chain that exists does not get.
    AddCommentedChain(String, Chain, String),
    /// `flush chain`: removes its rules.
    FlushChain(String),
    /// `delete chain`: fails while a rule or an element leads to it; kernels before 6.2 also fail in the
    /// transaction that deletes such an element.
    DeleteChain(String),
    /// `add rule`: appends a rule.
    AddRule(String, Rule),
    /// `add rule`: appends a rule in the kernel's own instructions.
    AddRawRule(String, RawRule),
    /// `insert rule`: puts such a rule in front of all others.
    InsertRawRule(String, RawRule),
    /// `delete rule handle`: removes the rule that was read with this
    /// [`handle`](super::ObservedRule::handle) from a chain; fails where there is none.
    DeleteRule(String, u64),
    /// `add set` or `add map`, then its elements. A set that exists must be of the same type; its size stays
    /// as it is.
    AddSet(String, Set),
    /// `delete set` or `delete map`: fails while a rule refers to it.
    DeleteSet(String),
    /// `add element`: the set must exist. An element that exists with other data is refused; one that exists
    /// with another comment keeps that. The keys of an interval set have to be networks: the kernel takes a
    /// single address for the beginning of a range without an end.
    AddElements(String, Vec<(Key, Element)>),
    /// `delete element`: fails where one does not exist.
    DeleteElements(String, Vec<Key>),
}
