//! Holds the tables in `docs/` against the programs. No list of keys is kept for that: [`keys`] asks the parser's own
//! types, [`documented`] reads the tables. [`commands`] has what the pages have people type.

pub mod commands;
mod document;
mod keys;

pub use document::{Row, code, documented, every_key_is_documented, table};
pub use keys::keys;
