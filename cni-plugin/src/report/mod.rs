//! What is printed: results and errors on stdout in the form of Go's encoder, words for a person on stderr.

mod go_json;
mod journal;
mod result;
mod text;

pub use journal::Journal;
pub use result::result;
pub use text::{
    about, error, installed, installed_conflist, unknown_name, usage, version, versions,
};
