//! What is printed: results and errors on stdout in the form of Go's encoder, words for a person on stderr.

mod go_json;
mod result;
mod text;

pub use result::result;
pub use text::{about, error, installed, unknown_name, usage, versions};
