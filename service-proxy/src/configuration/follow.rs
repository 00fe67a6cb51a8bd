//! Follows the file of the configuration.
//!
//! Its directory is watched, not the file: editors and `kubectl` replace files, and a ConfigMap's file is a
//! link by way of `..data`, which the kubelet points elsewhere.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use notify::{INotifyWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// How long a file has to be left alone: somebody may be writing it.
const SETTLED: Duration = Duration::from_millis(100);
/// How often the file is read even though nothing was heard: a link on the way to it can be changed.
const LOOK: Duration = Duration::from_secs(10);

/// A file that is followed.
#[derive(Debug)]
pub struct Follow {
    path: PathBuf,
    _watcher: INotifyWatcher,
    stirred: Arc<Notify>,
    look_at: Instant,
    /// What it held when it was read last, or why it could not be.
    known: Result<String, String>,
}

/// The file can't be followed.
#[derive(Debug, thiserror::Error)]
#[error("--config: watch {}: {cause}; check that fs.inotify.max_user_instances and \
         fs.inotify.max_user_watches leave room", path.display())]
pub struct Unwatched {
    path: PathBuf,
    cause: notify::Error,
}

// === impl Follow ===

impl Follow {
    /// Follows a file that held a text when it was read last.
    ///
    /// # Errors
    /// If its directory can't be watched.
    pub fn open(path: &Path, text: String) -> Result<Self, Unwatched> {
        let failed = |cause| Unwatched {
            path: path.to_owned(),
            cause,
        };
        let stirred = Arc::new(Notify::new());
        let waker = Arc::clone(&stirred);
        // Whatever it is that happened: the file is read, and compared.
        let wake = move |_| waker.notify_one();
        let mut watcher = INotifyWatcher::new(wake, notify::Config::default()).map_err(failed)?;
        let directory = path.parent().filter(|it| !it.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        watcher
            .watch(directory, RecursiveMode::NonRecursive)
            .map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            _watcher: watcher,
            stirred,
            // Read once more at once: it may have changed since it was read.
            look_at: Instant::now(),
            known: Ok(text),
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until the file holds another text, or can't be read any more. Nothing is lost if the wait is given
    /// up.
    pub async fn next(&mut self) -> Result<String, String> {
        loop {
            tokio::select! {
                () = self.stirred.notified() => {
                    self.look_at = self.look_at.min(Instant::now() + SETTLED);
                }
                () = tokio::time::sleep_until(self.look_at.into()) => {
                    self.look_at = Instant::now() + LOOK;
                    let read = self.read();
                    if read != self.known {
                        self.known.clone_from(&read);
                        return read;
                    }
                }
            }
        }
    }

    fn read(&self) -> Result<String, String> {
        fs::read_to_string(&self.path).map_err(|error: io::Error| error.to_string())
    }
}
