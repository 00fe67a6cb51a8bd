//! host-local's files: who holds which address of a network.
//!
//! One directory per network. A file named by an address says who holds it; `last_reserved_ip.N` which
//! address of range set N was given out last; `lock` is locked by whoever reads or changes the others
//! (flock(2)). The reference plugin uses the very same files, at the same time if need be, and so do tools
//! that look on.
//!
//! No file is synced to the disk. The containers that hold addresses end with the power as well: a
//! reservation that is lost then is one that nobody needs, and one that comes back empty is recognised as
//! such. Against the death of this process, renames and links are enough.

use std::{
    cell::Cell,
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    net::IpAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::{address_index::AddressIndex, atomic_file};
use crate::model::{Attachment, Error, IpamLocation, Owner};

const DIR_MODE: u32 = 0o755;
const LOCK_MODE: u32 = 0o600;
const LOCK: &str = "lock";
/// Where files are filled before they get their names; no address, and thus nobody's reservation.
const TEMPORARY: &str = ".reserving";

/// The reservations of one network, locked until it is dropped.
#[derive(Debug)]
pub struct AddressStore {
    dir: PathBuf,
    index: AddressIndex,
    /// Whether the index is complete, but for what was done since the lock was taken.
    is_indexed: Cell<bool>,
    _lock: File,
}

/// The addresses that an attachment holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owned {
    /// Those of this very interface.
    pub exact: Vec<IpAddr>,
    /// Those of its container, of files that name no interface.
    pub unnamed: Vec<IpAddr>,
}

/// Who holds which address; `None` for a file that nobody has filled: its writer died over it. Nobody can
/// be about to fill it while the lock is held, so the address is as good as free.
pub type Reservations = BTreeMap<IpAddr, Option<Owner>>;

// === impl AddressStore ===

impl AddressStore {
    /// Locks a network's reservations; makes the directory if there is none. Waits for the lock.
    pub fn open(location: &IpamLocation) -> Result<Self, Error> {
        if let Some(store) = Self::open_existing(location)? {
            return Ok(store);
        }
        let dir = &location.dir;
        DirBuilder::new()
            .recursive(true)
            .mode(DIR_MODE)
            .create(dir)
            .map_err(|error| Error::io(format!("mkdir {}", dir.display()), &error))?;
        Self::lock(dir).map_err(|error| lock_failed(dir, &error))
    }

    /// Locks a network's reservations; `None` if there have never been any.
    pub fn open_existing(location: &IpamLocation) -> Result<Option<Self>, Error> {
        match Self::lock(&location.dir) {
            Err(error) if is_no_directory(&error) => Ok(None),
            Err(error) => Err(lock_failed(&location.dir, &error)),
            Ok(store) => Ok(Some(store)),
        }
    }

    fn lock(dir: &Path) -> io::Result<Self> {
        let lock = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(LOCK_MODE)
            .open(dir.join(LOCK))?;
        lock.lock()?;
        Ok(Self {
            dir: dir.to_owned(),
            index: AddressIndex::of(dir),
            is_indexed: Cell::new(false),
            _lock: lock,
        })
    }

    /// Reads all reservations. Files with names that are no addresses are somebody else's.
    pub fn reservations(&self) -> Result<Reservations, Error> {
        let mut reservations = Reservations::new();
        let failed = |error: io::Error| Error::io(format!("read {}", self.dir.display()), &error);
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let address = name.to_str().and_then(|name| name.parse().ok());
            if let Some(address) = address
                && let Some(content) = self.read(&name.to_string_lossy())?
            {
                reservations.insert(address, Owner::parse(&content));
            }
        }
        Ok(reservations)
    }

    /// The address of a range set that was given out last. The file is a hint: where it says anything else,
    /// the turn begins anew.
    pub fn last_reserved(&self, range_set: usize) -> Result<Option<IpAddr>, Error> {
        let content = self.read(&last_reserved_name(range_set))?;
        Ok(content.and_then(|content| content.parse().ok()))
    }

    /// The addresses that an attachment holds. Reads its own files only, unless the index has to be made
    /// anew.
    pub fn owned(&self, attachment: &Attachment) -> Result<Owned, Error> {
        if self.index.is_current() {
            let [exact, unnamed] = Owner::keys_of(attachment).map(|key| self.index.addresses(&key));
            let owned = Owned { exact, unnamed };
            if self.is_true(&owned, attachment)? {
                self.is_indexed.set(true);
                return Ok(owned);
            }
        }
        let known = self.reservations()?;
        // Without an index every call reads all files, as the reference plugin does.
        self.is_indexed.set(self.index.rebuild(&known).is_ok());
        let of = |is_owner: &dyn Fn(&Owner) -> bool| {
            let owned = known
                .iter()
                .filter(|(_, owner)| owner.as_ref().is_some_and(is_owner));
            owned.map(|(address, _)| *address).collect()
        };
        Ok(Owned {
            exact: of(&|owner| owner.is(attachment)),
            unnamed: of(&|owner| owner.may_be(attachment)),
        })
    }

    /// Has the index know what an owner holds now: after [`AddressStore::owned`], and after all else was
    /// done. `key` is the owner's.
    pub fn note(&self, key: &str, addresses: &[IpAddr]) {
        if self.is_indexed.get() {
            // An index that was not brought up to date is found to be so by the next call.
            self.is_indexed
                .set(self.index.update(key, addresses).is_ok());
        }
    }

    /// Whether an address has a file with something in it. What is in it is not read: the few that have no
    /// owner all the same are worth it only when there is no other address left.
    pub fn is_taken(&self, address: IpAddr) -> bool {
        match fs::symlink_metadata(self.dir.join(address.to_string())) {
            Ok(metadata) => metadata.len() > 0,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    /// Who holds an address.
    pub fn owner(&self, address: IpAddr) -> Result<Option<Owner>, Error> {
        let content = self.read(&address.to_string())?;
        Ok(content.and_then(|content| Owner::parse(&content)))
    }

    /// Reserves an address that is free or nobody's, and remembers it as the last one of its range set.
    pub fn reserve(
        &self,
        address: IpAddr,
        attachment: &Attachment,
        range_set: usize,
    ) -> Result<(), Error> {
        let path = self.dir.join(address.to_string());
        let failed =
            |path: &Path, error: &io::Error| Error::io(format!("write {}", path.display()), error);
        let content = Owner::content_for(attachment);
        let write = || atomic_file::write_new(&path, TEMPORARY, content.as_bytes());
        let written = match write() {
            Err(error)
                if error.kind() == io::ErrorKind::AlreadyExists
                    && self.owner(address)?.is_none() =>
            {
                atomic_file::remove_if_there(&path).and_then(|()| write())
            }
            other => other,
        };
        written.map_err(|error| failed(&path, &error))?;
        let path = self.dir.join(last_reserved_name(range_set));
        let content = address.to_string();
        atomic_file::overwrite_hint(&path, content.as_bytes())
            .map_err(|error| failed(&path, &error))
    }

    /// Gives an address back; it is no error if it was not reserved.
    pub fn release(&self, address: IpAddr) -> Result<(), Error> {
        let path = self.dir.join(address.to_string());
        atomic_file::remove_if_there(&path)
            .map_err(|error| Error::io(format!("remove {}", path.display()), &error))
    }

    /// Removes what a process was killed over: nobody else can be about to fill it while the lock is held.
    pub fn remove_left(&self) -> Result<(), Error> {
        let path = self.dir.join(TEMPORARY);
        atomic_file::remove_if_there(&path)
            .map_err(|error| Error::io(format!("remove {}", path.display()), &error))
    }

    /// Whether the address files say the same as the index.
    fn is_true(&self, owned: &Owned, attachment: &Attachment) -> Result<bool, Error> {
        let all = |addresses: &[IpAddr], is_owner: &dyn Fn(&Owner) -> bool| {
            for address in addresses {
                if !self.owner(*address)?.as_ref().is_some_and(is_owner) {
                    return Ok::<bool, Error>(false);
                }
            }
            Ok(true)
        };
        Ok(all(&owned.exact, &|owner| owner.is(attachment))?
            && all(&owned.unnamed, &|owner| owner.may_be(attachment))?)
    }

    /// The content of a file; `None` if there is none. What is no UTF-8 can't be anybody's id.
    fn read(&self, name: &str) -> Result<Option<String>, Error> {
        let path = self.dir.join(name);
        match fs::read(&path) {
            Ok(content) => Ok(Some(String::from_utf8_lossy(&content).into_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(format!("read {}", path.display()), &error)),
        }
    }
}

fn is_no_directory(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory)
}

fn lock_failed(dir: &Path, error: &io::Error) -> Error {
    Error::io(format!("lock {}", dir.join(LOCK).display()), error)
}

fn last_reserved_name(range_set: usize) -> String {
    format!("last_reserved_ip.{range_set}")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn attachment(id: &str) -> Attachment {
        Attachment {
            container_id: id.into(),
            if_name: "eth0".parse().unwrap(),
            netns: String::new(),
            args: String::new(),
        }
    }

    fn location(base: &Path) -> IpamLocation {
        IpamLocation {
            dir: base.join("cbr0"),
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn files_are_those_of_the_reference_plugin() {
        let base = tempfile::tempdir().unwrap();
        let location = location(base.path());
        let store = AddressStore::open(&location).unwrap();
        for (address, set) in [("10.1.2.2", 0), ("fd00::2", 1)] {
            store.reserve(ip(address), &attachment("c1"), set).unwrap();
        }
        let mut files: Vec<_> = fs::read_dir(&location.dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let want = [
            "10.1.2.2",
            "fd00::2",
            "last_reserved_ip.0",
            "last_reserved_ip.1",
            "lock",
        ];
        assert_eq!(files, want);
        let read = |name: &str| fs::read_to_string(location.dir.join(name)).unwrap();
        assert_eq!(read("10.1.2.2"), "c1\r\neth0");
        assert_eq!(read("last_reserved_ip.1"), "fd00::2");
        assert_eq!(store.last_reserved(0).unwrap(), Some(ip("10.1.2.2")));
        assert_eq!(store.last_reserved(2).unwrap(), None);
        let mode = |name: &str| {
            fs::metadata(location.dir.join(name))
                .unwrap()
                .permissions()
                .mode()
        };
        assert_eq!((mode(".") & 0o777, mode("fd00::2") & 0o777), (0o755, 0o600));
    }

    #[test]
    fn a_taken_address_is_not_overwritten() {
        let base = tempfile::tempdir().unwrap();
        let store = AddressStore::open(&location(base.path())).unwrap();
        store.reserve(ip("10.1.2.2"), &attachment("c1"), 0).unwrap();
        let error = store
            .reserve(ip("10.1.2.2"), &attachment("c2"), 0)
            .unwrap_err();
        assert!(error.message.ends_with("10.1.2.2: file exists"), "{error}");
        let known = store.reservations().unwrap();
        assert!(
            known[&ip("10.1.2.2")]
                .as_ref()
                .unwrap()
                .is(&attachment("c1"))
        );
    }

    #[test]
    fn what_a_killed_process_left_is_no_reservation() {
        let base = tempfile::tempdir().unwrap();
        let location = location(base.path());
        let store = AddressStore::open(&location).unwrap();
        fs::write(location.dir.join("10.1.2.2"), "").unwrap();
        // Killed between link and unlink: the temporary file is c1's file as well.
        fs::write(location.dir.join("10.1.2.3"), "c1\r\neth0").unwrap();
        fs::hard_link(location.dir.join("10.1.2.3"), location.dir.join(TEMPORARY)).unwrap();
        let known = store.reservations().unwrap();
        assert_eq!(
            known.keys().copied().collect::<Vec<_>>(),
            [ip("10.1.2.2"), ip("10.1.2.3")]
        );
        assert_eq!(known[&ip("10.1.2.2")], None);
        store.reserve(ip("10.1.2.2"), &attachment("c2"), 0).unwrap();
        let known = store.reservations().unwrap();
        assert!(
            known[&ip("10.1.2.2")]
                .as_ref()
                .unwrap()
                .is(&attachment("c2"))
        );
        assert!(
            known[&ip("10.1.2.3")]
                .as_ref()
                .unwrap()
                .is(&attachment("c1"))
        );
    }

    #[test]
    fn nothing_is_made_to_release_what_never_was() {
        let base = tempfile::tempdir().unwrap();
        assert!(
            AddressStore::open_existing(&location(base.path()))
                .unwrap()
                .is_none()
        );
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0);
    }
}
