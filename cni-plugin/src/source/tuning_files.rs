//! The tuning plugin's files: backups of what it changed, and the administrator's allowlist.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use serde::Serialize;
use serde_json::{Serializer, ser::PrettyFormatter};

use super::atomic_file;
use crate::model::{Attachment, Error, SysctlAllowlist, TuningBackup, ValidAttachments};

/// Only root has business there.
const DIR_MODE: u32 = 0o700;
const ALLOWLIST: &str = "/etc/cni/tuning/allowlist.conf";
const SUFFIX: &str = ".json";

/// The backup of one attachment, where the reference has it: `<dataDir>/<containerID>_<ifname>.json`.
#[derive(Debug)]
pub struct BackupFile {
    path: PathBuf,
    temporary: String,
}

// === impl BackupFile ===

impl BackupFile {
    /// The file of an attachment. `mark` tells the network by a few letters: what a killed process leaves may
    /// be empty.
    pub fn of(attachment: &Attachment, mark: &str, dir: &Path) -> Self {
        let name = format!("{}_{}{SUFFIX}", attachment.container_id, attachment.if_name);
        Self {
            path: dir.join(&name),
            // No container id begins with a dot.
            temporary: format!(".{name}.{mark}"),
        }
    }

    /// Saves a backup, indented as the reference does it.
    pub fn save(&self, backup: &TuningBackup) -> Result<(), Error> {
        let write = || {
            if let Some(dir) = self.path.parent() {
                DirBuilder::new()
                    .recursive(true)
                    .mode(DIR_MODE)
                    .create(dir)?;
            }
            let mut content = Vec::new();
            let formatter = PrettyFormatter::with_indent(b" ");
            backup.serialize(&mut Serializer::with_formatter(&mut content, formatter))?;
            atomic_file::write(&self.path, &self.temporary, &content)
        };
        write().map_err(|error| self.failed("save", &error))
    }

    /// The saved backup; `None` if there is none, or none that can be read as one.
    pub fn load(&self) -> Result<Option<TuningBackup>, Error> {
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

    /// Removes the backups of a network's attachments that are not in use. One that does not name its network
    /// is the reference's, and may be any network's.
    pub fn remove_left(
        dir: &Path,
        network: &str,
        mark: &str,
        valid: &ValidAttachments,
    ) -> Result<(), Error> {
        let failed = |error: io::Error| Error::io(format!("read {}", dir.display()), &error);
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let (name, is_of_network) = match name.strip_prefix('.') {
                Some(temporary) => match temporary.rsplit_once('.') {
                    Some((name, its_mark)) => (name, its_mark == mark),
                    None => continue,
                },
                None => (&*name, is_of_network(&path, network)),
            };
            let Some(name) = name.strip_suffix(SUFFIX) else {
                continue;
            };
            // Ids and names of interfaces may have underscores of their own.
            let mut splits = name.match_indices('_');
            let is_in_use = splits.any(|(at, _)| valid.contains(&name[..at], &name[at + 1..]));
            if is_of_network && !is_in_use {
                atomic_file::remove_if_there(&path)
                    .map_err(|error| Error::io(format!("remove {}", path.display()), &error))?;
            }
        }
        Ok(())
    }

    fn failed(&self, verb: &str, error: &io::Error) -> Error {
        Error::io(format!("{verb} backup {}", self.path.display()), error)
    }
}

/// The administrator's list; `None` where there is no file, and everything of the network is allowed.
pub fn read_allowlist() -> Result<Option<SysctlAllowlist>, Error> {
    match fs::read_to_string(ALLOWLIST) {
        Ok(text) => SysctlAllowlist::parse(&text).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(format!("read {ALLOWLIST}"), &error)),
    }
}

fn is_of_network(path: &Path, network: &str) -> bool {
    let content = fs::read(path).unwrap_or_default();
    let backup: TuningBackup = serde_json::from_slice(&content).unwrap_or_default();
    backup.network == network
}
