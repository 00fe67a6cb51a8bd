//! nftables, without the `nft` binary.
//!
//! A [`Table`] is what should stand in the kernel, or what does. A [`Transaction`] is a list of commands
//! as a value: it is made by hand or by [`diff`], prints as the text that `nft -f` takes, and is applied
//! by [`Handle`] in one nfnetlink batch, all or nothing. [`Fake`] takes a transaction as the kernel does and
//! refuses what the kernel refuses, for tests of plans.
//!
//! Rules are written in [`Statement`]s, the words of nft(8). What the kernel stores are register
//! expressions; a statement is lowered to those to be sent, and what the kernel shows is compared in that form.

mod chain;
mod diff;
mod expr;
mod fake;
mod handle;
mod invalid;
mod lower;
mod monitor;
mod observed;
mod set;
mod statement;
mod table;
mod table_family;
mod text;
mod transaction;
mod wire;

pub use chain::{BaseChain, Chain, ChainKind, Hook, Policy, RawRule, Rule};
pub use diff::{create, diff, elements_delta};
pub use expr::{
    CtKey, DynSetOperation, Expr, ExtensionKind, Header, LookupTarget, MetaKey, Register,
};
pub use fake::Fake;
pub use handle::Handle;
pub use invalid::Invalid;
pub(crate) use lower::check_comment;
pub use lower::lower;
pub use monitor::{Change, Monitor};
pub use observed::{ObservedChain, ObservedRule, ObservedSet, ObservedTable};
pub use set::{Data, DataType, Element, Key, Set, SetData, Value};
pub use statement::{Field, Match, Operator, Statement, Term, Verdict};
pub use table::Table;
pub use table_family::TableFamily;
pub use transaction::{Command, Transaction};
