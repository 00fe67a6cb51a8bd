//! Holds the tables in `docs/` against the programs. No list of keys is kept for that: [`keys`] asks the parser's own
//! types, [`documented`] reads the tables.

mod document;
mod keys;

pub use document::{Row, code, documented, every_key_is_documented, table};
pub use keys::keys;
