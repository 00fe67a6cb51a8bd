//! Files that are there whole or not at all.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Only root has business with our state.
const MODE: u32 = 0o600;

/// Makes or replaces a file, by way of a temporary one that is named `temporary` in the same directory.
/// Against the death of this process that is enough. It is not synced to the disk, which takes milliseconds:
/// after a loss of power it may be empty or cut off, so this is for content that can be told to be whole.
pub fn write(path: &Path, temporary: &str, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_file_name(temporary);
    let mut file = create(OpenOptions::new().create(true).truncate(true), &temporary)?;
    file.write_all(content)?;
    fs::rename(&temporary, path)
}

/// Makes a file with its content at once; fails with `AlreadyExists` where there is one. The caller holds a
/// lock that keeps others away from `temporary`.
pub fn write_new(path: &Path, temporary: &str, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_file_name(temporary);
    let make = || create(OpenOptions::new().create_new(true), &temporary);
    let mut file = match make() {
        // One that a killed process left may be linked to a file that is in use: it is removed, not reused.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            remove_if_there(&temporary)?;
            make()?
        }
        made => made?,
    };
    file.write_all(content)?;
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary)?;
    linked
}

/// Makes or overwrites a file in place, for content that may be lost or wrong: a process that is killed over
/// it leaves some of the old content behind the new. Replacing the file, or cutting it off before it is
/// written, would have some file systems (ext4, `auto_da_alloc`) wait for the disk.
pub fn overwrite_hint(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = create(OpenOptions::new().create(true).truncate(false), path)?;
    file.write_all(content)?;
    file.set_len(content.len() as u64)
}

/// Removes a file; it is no error if there is none.
pub fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn create(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    options.write(true).mode(MODE).open(path)
}
