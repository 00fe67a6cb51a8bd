//! Which addresses an attachment holds, without reading every address file of a network.
//!
//! The index is a directory beside the network's, `.tweed/NETWORK` (no network's name begins with a dot), so
//! that nothing that looks through the address files meets it. It has a symbolic link for each owner,
//! `CONTAINER@INTERFACE` -> `ADDRESS,ADDRESS`. It is a cache: the address files are the truth.
//!
//! Whoever knows nothing of the index changes the network's directory, and with that its modification time.
//! So the last thing that is done to the directory under the lock is to set that time to one that has
//! passed, which the kernel will not give to any later change, and to write it into `.stamp`. Where
//! the two differ - the reference plugin was here, or one of ours was killed half-way - the index is built
//! anew.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File},
    io,
    net::IpAddr,
    os::unix::fs::{DirBuilderExt, MetadataExt, symlink},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::{Reservations, atomic_file};
use crate::model::Owner;

/// Only root has business there.
const MODE: u32 = 0o700;
const NAME: &str = ".tweed";
const STAMP: &str = ".stamp";
/// How far back the stamp lies: more than the coarsest time that a file system keeps (2 s, FAT).
const AGE: Duration = Duration::from_secs(10);

/// The index of one network. All of its methods want the network's lock to be held.
#[derive(Debug)]
pub struct AddressIndex {
    dir: PathBuf,
    network: PathBuf,
}

// === impl AddressIndex ===

impl AddressIndex {
    /// The index of the network whose address files are in `network`.
    pub fn of(network: &Path) -> Self {
        let name = network.file_name().unwrap_or_default();
        Self {
            dir: network.with_file_name(NAME).join(name),
            network: network.to_owned(),
        }
    }

    /// Whether nobody changed the network's directory since [`AddressIndex::seal`].
    pub fn is_current(&self) -> bool {
        let sealed = fs::read_to_string(self.dir.join(STAMP));
        matches!((sealed, self.modified()), (Ok(sealed), Ok(now)) if sealed == now)
    }

    /// The addresses of an owner; none if it holds none, or if the index is damaged.
    pub fn addresses(&self, owner: &str) -> Vec<IpAddr> {
        let target = self.target(owner);
        let addresses = target.split(',');
        addresses.filter_map(|text| text.parse().ok()).collect()
    }

    /// Has the index say what the address files say. What it says already is left as it is: to read a link
    /// takes a small part of what it takes to make one, and others change a few of them at a time.
    pub fn rebuild(&self, known: &Reservations) -> io::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(MODE)
            .create(&self.dir)?;
        // Nobody is to believe an index that a killed process left half made.
        atomic_file::remove_if_there(&self.dir.join(STAMP))?;
        let mut owners: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
        for (address, owner) in known {
            if let Some(key) = owner.as_ref().and_then(Owner::key) {
                owners.entry(key).or_default().push(*address);
            }
        }
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let owner = entry.file_name().to_string_lossy().into_owned();
            let is_right = |addresses: &Vec<IpAddr>| self.target(&owner) == text(addresses);
            if owners.get(&owner).is_some_and(is_right) {
                owners.remove(&owner);
            } else if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        for (owner, addresses) in owners {
            self.link(&owner, &addresses)?;
        }
        self.seal()
    }

    /// Notes the addresses of an owner that had none, or takes note that it has none any more.
    pub fn update(&self, owner: &str, addresses: &[IpAddr]) -> io::Result<()> {
        let remove = || atomic_file::remove_if_there(&self.dir.join(owner));
        if addresses.is_empty() {
            remove()?;
        } else {
            match self.link(owner, addresses) {
                // Out of date.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    remove()?;
                    self.link(owner, addresses)?;
                }
                linked => linked?,
            }
        }
        self.seal()
    }

    /// Says that the index is complete. Nothing may be changed in the network's directory after that.
    fn seal(&self) -> io::Result<()> {
        let time = SystemTime::now() - AGE;
        File::open(&self.network)?.set_modified(time)?;
        // As the file system keeps it.
        let stamp = self.modified()?;
        atomic_file::overwrite_hint(&self.dir.join(STAMP), stamp.as_bytes())
    }

    fn link(&self, owner: &str, addresses: &[IpAddr]) -> io::Result<()> {
        symlink(text(addresses), self.dir.join(owner))
    }

    /// What an owner's link says; empty if there is none.
    fn target(&self, owner: &str) -> String {
        let target = fs::read_link(self.dir.join(owner)).unwrap_or_default();
        target.to_str().unwrap_or_default().to_owned()
    }

    fn modified(&self) -> io::Result<String> {
        let metadata = fs::metadata(&self.network)?;
        // The inode as well: a directory that was made anew is another one.
        Ok(format!(
            "{}.{:09}-{}",
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.ino()
        ))
    }
}

fn text(addresses: &[IpAddr]) -> String {
    let texts: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    texts.join(",")
}
