//! Network namespaces.
//!
//! A namespace belongs to a thread. Whoever wants to act inside one calls [`Namespace::run`], which
//! enters it on a thread of its own: no runtime's worker ever changes its namespace. A socket opened in
//! there can be handed back, it stays in the namespace that it was opened in.

use std::{
    fs::{self, File, Metadata},
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
};

use crate::{Error, Result, below::below};

/// Where named namespaces are kept, as `ip netns` does.
pub const NAMED: &str = "/run/netns";
/// The namespace of the thread that opens it.
const CURRENT: &str = "/proc/thread-self/ns/net";

/// A reference to a network namespace; the namespace lives at least as long.
#[derive(Debug)]
pub struct Namespace {
    file: File,
    path: PathBuf,
}

/// Brings the thread home when it is dropped, also by a panic.
struct Visit {
    home: Namespace,
}

// === impl Namespace ===

impl Namespace {
    /// Opens the namespace at a path (`/run/netns/NAME`, `/proc/PID/ns/net`).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let attempted = || format!("open network namespace {}", path.display());
        let file = File::open(path).map_err(|error| Error::new(attempted(), error))?;
        Ok(Self {
            file,
            path: path.to_owned(),
        })
    }

    /// The namespace of the calling thread.
    pub fn current() -> Result<Self> {
        Self::open(CURRENT)
    }

    /// Makes a new namespace with loopback down, kept by a bind mount at `/run/netns/NAME`.
    pub fn create_named(name: &str) -> Result<Self> {
        let attempted = || format!("ip netns add {name}");
        let failed = |error: io::Error| Error::new(attempted(), error);
        let path = below(NAMED, name).map_err(|errno| Error::new(attempted(), errno))?;
        fs::create_dir_all(NAMED).map_err(failed)?;
        File::create_new(&path).map_err(failed)?;
        let made = on_own_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            mount(
                Some(CURRENT),
                &path,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )
        });
        match made
            .map_err(failed)
            .and_then(|made| made.map_err(|errno| Error::new(attempted(), errno)))
        {
            Ok(()) => Self::open(path),
            Err(error) => {
                // The mount point is of no use without the mount; the first error is the one to report.
                drop(fs::remove_file(&path));
                Err(error)
            }
        }
    }

    /// Removes a named namespace; the kernel ends it once no process, socket or file refers to it.
    pub fn delete_named(name: &str) -> Result<()> {
        let attempted = || format!("ip netns delete {name}");
        let path = below(NAMED, name).map_err(|errno| Error::new(attempted(), errno))?;
        umount2(&path, MntFlags::MNT_DETACH)
            .or_else(|errno| {
                if errno == nix::errno::Errno::EINVAL {
                    Ok(())
                } else {
                    Err(errno)
                }
            })
            .map_err(|errno| Error::new(attempted(), errno))?;
        fs::remove_file(&path).map_err(|error| Error::new(attempted(), error))
    }

    /// Runs `work` inside the namespace, on a thread of its own.
    ///
    /// # Errors
    /// If the namespace can't be entered. A panic of `work` goes on in the caller.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let attempted = || format!("enter network namespace {}", self.path.display());
        on_own_thread(|| setns(&self.file, CloneFlags::CLONE_NEWNET).map(|()| work()))
            .map_err(|error| Error::new(attempted(), error))?
            .map_err(|errno| Error::new(attempted(), errno))
    }

    /// Runs `work` inside the namespace on the calling thread, and comes back: for programs of one thread,
    /// which save a second one and two turns of the scheduler by it. Where there is a runtime, its worker
    /// must not leave its namespace: see [`Namespace::run`].
    ///
    /// # Errors
    /// If the namespace can't be entered.
    pub fn visit<T>(&self, work: impl FnOnce() -> T) -> Result<T> {
        let home = Visit {
            home: Self::current()?,
        };
        setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(|errno| {
            let attempted = format!("enter network namespace {}", self.path.display());
            Error::new(attempted, errno)
        })?;
        let outcome = work();
        drop(home);
        Ok(outcome)
    }

    /// Whether both refer to one namespace.
    pub fn is_same(&self, other: &Self) -> Result<bool> {
        let id = |namespace: &Self| id(&namespace.path, namespace.file.metadata());
        Ok(id(self)? == id(other)?)
    }

    /// Whether a path leads to the calling thread's namespace.
    pub fn is_current(path: impl AsRef<Path>) -> Result<bool> {
        let id = |path: &Path| id(path, fs::metadata(path));
        Ok(id(path.as_ref())? == id(CURRENT.as_ref())?)
    }

    /// The path that it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for Namespace {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

// === impl Visit ===

impl Drop for Visit {
    fn drop(&mut self) {
        if setns(&self.home.file, CloneFlags::CLONE_NEWNET).is_err() {
            // All that the thread did from now on would be done to somebody else's network.
            std::process::abort();
        }
    }
}

/// What the kernel tells a namespace's file from others by.
fn id(path: &Path, metadata: io::Result<Metadata>) -> Result<(u64, u64)> {
    metadata
        .map(|it| (it.dev(), it.ino()))
        .map_err(|error| Error::new(format!("stat {}", path.display()), error))
}

/// Runs `work` on a new thread and waits for it; a panic goes on in the caller.
fn on_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("netns".into())
            .spawn_scoped(scope, work)?;
        thread
            .join()
            .or_else(|panic| std::panic::resume_unwind(panic))
    })
}
