//! The tuning plugin's files: backups of what it changed, and the administrator's allowlist.

use std::{fs, io, path::Path};

use serde::Serialize;
use serde_json::{Serializer, ser::PrettyFormatter};

use super::kept_file::{self, KeptFile};
use crate::model::{Attachment, Error, SysctlAllowlist, TuningBackup, ValidAttachments};

const ALLOWLIST: &str = "/etc/cni/tuning/allowlist.conf";
const SUFFIX: &str = ".json";

/// The backup of one attachment, where the reference has it: `<dataDir>/<containerID>_<ifname>.json`.
#[derive(Debug)]
pub struct BackupFile(KeptFile);

// === impl BackupFile ===

impl BackupFile {
    /// The file of an attachment. `mark` tells the network by a few letters: what a killed process leaves may
    /// be empty.
    pub fn of(attachment: &Attachment, mark: &str, dir: &Path) -> Self {
        let name = format!("{}_{}{SUFFIX}", attachment.container_id, attachment.if_name);
        let temporary = format!(".{name}.{mark}");
        Self(KeptFile::new(dir, &name, temporary, "backup"))
    }

    /// Saves a backup, indented as the reference does it.
    pub fn save(&self, backup: &TuningBackup) -> Result<(), Error> {
        let mut content = Vec::new();
        let formatter = PrettyFormatter::with_indent(b" ");
        backup
            .serialize(&mut Serializer::with_formatter(&mut content, formatter))
            .map_err(|error| Error::io("write a backup as JSON".to_owned(), &error.into()))?;
        self.0.save(&content)
    }

    /// The saved backup; `None` if there is none, or none that can be read as one.
    pub fn load(&self) -> Result<Option<TuningBackup>, Error> {
        self.0.load()
    }

    /// Removes the file, if it is there, and what a killed process left of it.
    pub fn remove(&self) -> Result<(), Error> {
        self.0.remove()
    }

    /// Removes the backups of a network's attachments that are not in use. One that does not name its network
    /// is the reference's, and may be any network's.
    pub fn remove_left(
        dir: &Path,
        network: &str,
        mark: &str,
        valid: &ValidAttachments,
    ) -> Result<(), Error> {
        kept_file::remove_left(dir, |path, name| match name.strip_prefix('.') {
            Some(temporary) => temporary
                .rsplit_once('.')
                .is_some_and(|(name, its_mark)| its_mark == mark && is_out_of_use(name, valid)),
            None => is_out_of_use(name, valid) && is_of_network(path, network),
        })
    }
}

/// Whether `ID_IFNAME.json` is a backup of none of the attachments. Ids and names of interfaces may have
/// underscores of their own.
fn is_out_of_use(name: &str, valid: &ValidAttachments) -> bool {
    let Some(name) = name.strip_suffix(SUFFIX) else {
        return false;
    };
    let mut splits = name.match_indices('_');
    !splits.any(|(at, _)| valid.contains(&name[..at], &name[at + 1..]))
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
