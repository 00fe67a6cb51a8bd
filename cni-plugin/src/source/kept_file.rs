//! A small JSON file that an ADD keeps for the DEL, one per container or attachment.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;

use super::atomic_file;
use crate::model::Error;

/// Only root has business there.
const DIR_MODE: u32 = 0o700;

/// One such file, and the temporary one that it comes into being by.
#[derive(Debug)]
pub struct KeptFile {
    path: PathBuf,
    temporary: String,
    what: &'static str,
}

// === impl KeptFile ===

impl KeptFile {
    /// The file of a name below `dir`. `temporary` begins with a dot, as no container id does, and tells
    /// whose it is: what a killed process leaves may be empty. `what` is the file's name in errors.
    pub fn new(dir: &Path, name: &str, temporary: String, what: &'static str) -> Self {
        Self {
            path: dir.join(name),
            temporary,
            what,
        }
    }

    /// Saves the content. It is not synced to the disk: a JSON object that is cut off is none, and without the
    /// file a DEL still knows enough.
    pub fn save(&self, content: &[u8]) -> Result<(), Error> {
        let write = || atomic_file::write(&self.path, &self.temporary, content);
        let written = match write() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.make_dir().and_then(|()| write())
            }
            written => written,
        };
        written.map_err(|error| self.failed("save", &error))
    }

    /// What was saved; `None` if there is nothing, or nothing that can be read as what it should be.
    pub fn load<T: DeserializeOwned>(&self) -> Result<Option<T>, Error> {
        match fs::read(&self.path) {
            Ok(content) => Ok(serde_json::from_slice(&content).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed("read", &error)),
        }
    }

    /// Removes the file, if it is there, and what a killed process left of it.
    pub fn remove(&self) -> Result<(), Error> {
        atomic_file::remove_if_there(&self.path.with_file_name(&self.temporary))
            .and_then(|()| atomic_file::remove_if_there(&self.path))
            .map_err(|error| self.failed("remove", &error))
    }

    fn make_dir(&self) -> io::Result<()> {
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir)
    }

    fn failed(&self, verb: &str, error: &io::Error) -> Error {
        let Self { path, what, .. } = self;
        Error::io(format!("{verb} {what} {}", path.display()), error)
    }
}

/// Removes the files of a directory for which `is_left` answers true, asked with path and name. No directory
/// is no error.
pub fn remove_left(dir: &Path, is_left: impl Fn(&Path, &str) -> bool) -> Result<(), Error> {
    let failed = |error: io::Error| Error::io(format!("read {}", dir.display()), &error);
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if is_left(&path, &name) {
            atomic_file::remove_if_there(&path)
                .map_err(|error| Error::io(format!("remove {}", path.display()), &error))?;
        }
    }
    Ok(())
}
