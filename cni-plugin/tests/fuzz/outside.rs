//! A file system that is laid over the machine's, in which every trace of a call is found.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    env,
    fs::{self, File},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    unistd::{chdir, chroot},
};

/// What every namespace of the machine shares, so that it is not laid over.
const SHARED: [&str; 4] = ["proc", "sys", "dev", "run/netns"];
/// A setting of the whole machine that keys of the network could lead to.
const SETTING: &str = "/proc/sys/kernel/pid_max";

/// The files of the calling thread.
pub struct Outside {
    /// All that was written since.
    written: File,
    known: RefCell<BTreeSet<PathBuf>>,
    setting: String,
}

// === impl Outside ===

impl Outside {
    /// Has the calling thread, and what it starts, write into an empty directory what is written anywhere.
    /// Nothing is left in `base` when the thread is gone.
    pub fn enter(base: &Path) -> Self {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        let slave = MsFlags::MS_REC | MsFlags::MS_SLAVE;
        mount(none, "/", none, slave, none).unwrap();
        mount(none, base, Some("tmpfs"), MsFlags::empty(), none).unwrap();
        let [upper, work, root] = ["upper", "work", "root"].map(|name| base.join(name));
        for directory in [&upper, &work, &root] {
            fs::create_dir(directory).unwrap();
        }
        let (shown, kept) = (upper.display(), work.display());
        let options = format!("lowerdir=/,upperdir={shown},workdir={kept}");
        let overlay = Some("overlay");
        mount(
            overlay,
            &root,
            overlay,
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .unwrap();
        for shared in SHARED {
            let place = root.join(shared);
            fs::create_dir_all(&place).unwrap();
            let from = Path::new("/").join(shared);
            let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
            mount(Some(&from), &place, none, flags, none).unwrap();
        }
        let written = File::open(&upper).unwrap();
        chroot(&root).unwrap();
        chdir("/").unwrap();
        // A directory in which something was made is one that was changed: the tests' own are.
        fs::create_dir_all(env::temp_dir()).unwrap();
        drop(tempfile::tempdir().unwrap());
        let outside = Self {
            written,
            known: RefCell::default(),
            setting: fs::read_to_string(SETTING).unwrap(),
        };
        outside.known.replace(outside.all());
        outside
    }

    /// Fails if anything was made or changed since the last time, and is still there.
    pub fn assert_untouched(&self) {
        let now = self.all();
        let known = self.known.replace(now.clone());
        let new: Vec<_> = now.difference(&known).collect();
        assert!(new.is_empty(), "made outside: {new:?}");
        assert_eq!(fs::read_to_string(SETTING).unwrap(), self.setting);
    }

    fn all(&self) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        // The directory itself is out of the thread's sight.
        let top = PathBuf::from(format!("/proc/self/fd/{}", self.written.as_raw_fd()));
        walk(&top, &top, &mut found);
        found
    }
}

fn walk(top: &Path, directory: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let path = entry.path();
        found.insert(path.strip_prefix(top).unwrap().to_owned());
        if entry.file_type().unwrap().is_dir() {
            walk(top, &path, found);
        }
    }
}
