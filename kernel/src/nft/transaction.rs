//! Commands to nftables as a value.

use super::{Chain, Element, Key, Rule, Set};
use crate::Family;

/// Commands that are carried out in their order, all or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// The family of the table that all commands are about.
    pub family: Family,
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
    /// `delete table`: with all that is in it; fails where it does not exist.
    DeleteTable,
    /// `add chain`, then its rules. A chain that exists must have the same hook; the rules are appended.
    AddChain(String, Chain),
    /// `flush chain`: removes its rules.
    FlushChain(String),
    /// `delete chain`: fails while it is jumped to.
    DeleteChain(String),
    /// `add rule`: appends a rule.
    AddRule(String, Rule),
    /// `add set` or `add map`, then its elements.
    AddSet(String, Set),
    /// `delete set` or `delete map`: fails while a rule refers to it.
    DeleteSet(String),
    /// `add element`: the set must exist; an element that exists with other data is refused.
    AddElements(String, Vec<(Key, Element)>),
    /// `delete element`: fails where one does not exist.
    DeleteElements(String, Vec<Key>),
}
