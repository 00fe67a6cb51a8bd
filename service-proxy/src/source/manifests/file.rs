//! A file of the directory: whether it counts, whether it has changed, and what it holds.

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt,
    path::Path,
};

use super::document::Format;

/// What differs when a file has been written or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// How a file is written, by its name; `None` if it is no manifest.
pub fn format_of(name: &str) -> Option<Format> {
    if name.starts_with('.') {
        return None;
    }
    match name.rsplit_once('.')?.1 {
        "yaml" | "yml" => Some(Format::Yaml),
        "json" => Some(Format::Json),
        _ => None,
    }
}

/// What tells whether a file has changed; `None` if there is no such file.
pub fn signature(path: &Path) -> io::Result<Option<Signature>> {
    match fs::metadata(path) {
        Ok(found) if found.is_file() => Ok(Some(Signature {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The text of a file, if it is one, and by what a change of it is seen.
pub type Content = (Signature, Result<String, std::string::FromUtf8Error>);

/// What a file holds; `None` if there is no such file.
pub fn content(path: &Path, signature: Option<Signature>) -> io::Result<Option<Content>> {
    let Some(signature) = signature else {
        return Ok(None);
    };
    match fs::read(path) {
        Ok(bytes) => Ok(Some((signature, String::from_utf8(bytes)))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
