//! iptables, by its own programs: the one place that executes something; and without them.
//!
//! The kernel has two ways for it (`legacy` tables and nf_tables). The programs know all of both and take
//! `iptables-restore`'s text; [`NativeTables`] knows the rules of nf_tables that are ours. Nothing goes through a shell: arguments are
//! fixed, and rules go by standard input. The programs act on the calling thread's network namespace.

mod backend;
mod error;
mod legacy;
mod native;
mod program;
mod recent;
mod rule;
mod table;

pub use backend::{Backend, HINTS, in_use};
pub use error::{Error, Result};
pub use legacy::{TableSize, table_size};
pub use native::NativeTables;
pub use program::Iptables;
pub use recent::recent;
pub use rule::words;
pub use table::{Chain, Table};
