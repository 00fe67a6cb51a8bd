//! A lock that only one process of a network namespace has.

use std::fs::File;

use nix::fcntl::{Flock, FlockArg};

use crate::model::Error;

/// What there is one of in every network namespace, and nothing is left of afterwards.
const PATH: &str = "/proc/thread-self/ns/net";

/// The lock of the calling thread's network namespace, for as long as the value lives. Held while rules are
/// read and changed according to that: two plugins that run at once would not see each other's.
#[derive(Debug)]
pub struct NamespaceLock {
    _held: Flock<File>,
}

// === impl NamespaceLock ===

impl NamespaceLock {
    /// Waits for the lock.
    pub fn take() -> Result<Self, Error> {
        let file = File::open(PATH).map_err(|error| Error::io(format!("open {PATH}"), &error))?;
        Flock::lock(file, FlockArg::LockExclusive)
            .map(|held| Self { _held: held })
            .map_err(|(_, errno)| Error::io(format!("lock {PATH}"), &errno.into()))
    }
}
