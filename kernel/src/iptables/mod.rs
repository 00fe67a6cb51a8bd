//! iptables, by its own programs: the one place that executes something.
//!
//! The kernel has two ways for it (`legacy` tables and nf_tables), with binary formats that only the
//! programs know; both take `iptables-restore`'s text. Nothing goes through a shell: arguments are
//! fixed, and rules go by standard input. The programs act on the calling thread's network namespace.

mod backend;
mod error;
mod program;
mod table;

pub use backend::{Backend, in_use};
pub use error::{Error, Result};
pub use program::Iptables;
pub use table::{Chain, Table};
