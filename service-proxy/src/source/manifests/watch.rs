//! Follows a directory of manifests.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use notify::{
    Event, EventKind, INotifyWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, ModifyKind},
};
use tokio::sync::mpsc::{self, UnboundedReceiver};

use super::{
    directory::{Directory, Outcome, Unreadable},
    file::format_of,
    settle::{Settle, Step, Target},
};
use crate::model::Change;

/// How often the directory is looked through even though nothing was heard of it: a link on the way to it
/// can be changed, and some file systems tell nothing.
const LOOK: Duration = Duration::from_secs(10);
/// How often a directory that can't be read is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The manifests of a directory, followed live.
#[derive(Debug)]
pub struct Manifests {
    directory: Directory,
    watcher: INotifyWatcher,
    events: UnboundedReceiver<notify::Result<Event>>,
    /// Device and inode of the directory that is watched.
    watched: Option<(u64, u64)>,
    settle: Settle,
    look_at: Instant,
    /// What keeps the directory from being read, as it was told last.
    complaint: Option<String>,
}

/// Why a directory can't be followed at all.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no such directory, or it can't be read.
    #[error("--manifests: {0}")]
    Unreadable(#[from] Unreadable),
    /// It can't be watched.
    #[error("--manifests: watch directory {}: {cause}; check that fs.inotify.max_user_instances and \
             fs.inotify.max_user_watches leave room", path.display())]
    Watch {
        /// The directory.
        path: PathBuf,
        /// Why.
        cause: notify::Error,
    },
}

// === impl Manifests ===

impl Manifests {
    /// Starts to follow a directory and reads all of it; what it holds is the first batch of changes.
    pub fn open(path: &Path) -> Result<(Self, Vec<Change>), StartError> {
        let failed = |cause| StartError::Watch {
            path: path.to_owned(),
            cause,
        };
        let (sender, events) = mpsc::unbounded_channel();
        let deliver = move |event| {
            // Nobody listens once the daemon is on its way out.
            sender.send(event).ok();
        };
        let mut manifests = Self {
            directory: Directory::new(path),
            watcher: INotifyWatcher::new(deliver, notify::Config::default()).map_err(failed)?,
            events,
            watched: None,
            settle: Settle::default(),
            look_at: Instant::now() + LOOK,
            complaint: None,
        };
        manifests.directory.check()?;
        // Watched before it is read, so that nothing is missed in between.
        manifests.watch().map_err(failed)?;
        let outcome = manifests.directory.rescan(&BTreeSet::new())?;
        Ok((manifests, warn(outcome)))
    }

    /// Waits for the next changes. Nothing is lost if the wait is given up.
    pub async fn next(&mut self) -> Vec<Change> {
        loop {
            let wake = self
                .settle
                .due()
                .map_or(self.look_at, |due| due.min(self.look_at));
            tokio::select! {
                Some(event) = self.events.recv() => self.note(event, Instant::now()),
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            let changes = self.read_due(Instant::now());
            if !changes.is_empty() {
                return changes;
            }
        }
    }

    fn note(&mut self, event: notify::Result<Event>, now: Instant) {
        match event {
            Ok(event) => {
                for (target, step) in classify(&event, self.directory.path()) {
                    self.settle.note(target, step, now);
                }
            }
            // Something was missed: look at everything.
            Err(_) => self.settle.note(Target::Directory, Step::Written, now),
        }
    }

    fn read_due(&mut self, now: Instant) -> Vec<Change> {
        while let Ok(event) = self.events.try_recv() {
            self.note(event, now);
        }
        let mut due = self.settle.take(now);
        if now >= self.look_at {
            due.insert(Target::Directory);
        }
        if due.is_empty() {
            return Vec::new();
        }
        let outcome = self.read(due);
        self.look_at = now + if outcome.is_ok() { LOOK } else { RETRY };
        match outcome {
            Ok(outcome) => {
                if self.complaint.take().is_some() {
                    tracing::info!(
                        "manifest directory {} can be read again",
                        self.directory.path().display()
                    );
                }
                warn(outcome)
            }
            Err(complaint) => {
                self.complain(complaint);
                Vec::new()
            }
        }
    }

    fn read(&mut self, due: BTreeSet<Target>) -> Result<Outcome, String> {
        if due.contains(&Target::Directory) {
            self.directory.check().map_err(|error| error.to_string())?;
            self.watch().map_err(|error| error.to_string())?;
            let unsettled = self.settle.unsettled();
            return self
                .directory
                .rescan(&unsettled)
                .map_err(|error| error.to_string());
        }
        let names = due.into_iter().filter_map(|target| match target {
            Target::Directory => None,
            Target::File(name) => Some(name),
        });
        self.directory
            .refresh(&names.collect())
            .map_err(|error| error.to_string())
    }

    /// Watches the directory of the path, unless that is the one that is watched.
    fn watch(&mut self) -> notify::Result<()> {
        let path = self.directory.path();
        let found =
            identity(path).map_err(|error| notify::Error::io(error).add_path(path.to_owned()))?;
        if self.watched == Some(found) {
            return Ok(());
        }
        if self.watched.take().is_some() {
            // The kernel has ended the watch of a removed directory by itself; then there is none to end.
            self.watcher.unwatch(path).ok();
        }
        self.watcher.watch(path, RecursiveMode::NonRecursive)?;
        self.watched = Some(found);
        Ok(())
    }

    fn complain(&mut self, complaint: String) {
        if self.complaint.as_ref() != Some(&complaint) {
            tracing::warn!("{complaint}; all that was read before stays in force");
            self.complaint = Some(complaint);
        }
    }
}

/// Says what has to be said, and hands the changes on.
fn warn(outcome: Outcome) -> Vec<Change> {
    for warning in outcome.warnings {
        tracing::warn!("{warning}");
    }
    outcome.changes
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|found| (found.dev(), found.ino()))
}

/// What an event means for the files of a directory.
fn classify(event: &Event, directory: &Path) -> Vec<(Target, Step)> {
    if event.need_rescan() {
        return vec![(Target::Directory, Step::Written)];
    }
    let Some(step) = step(event.kind) else {
        return Vec::new();
    };
    let targets = event.paths.iter().map(|path| target(path, directory));
    targets
        .filter_map(|target| match target {
            Target::File(_) => Some((target, step)),
            // Another file counts only where it comes or goes: a link can lead the manifests through it.
            Target::Directory => comes_or_goes(event.kind).then_some((target, Step::Written)),
        })
        .collect()
}

fn step(kind: EventKind) -> Option<Step> {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Modify(ModifyKind::Name(_))
        | EventKind::Remove(_) => Some(Step::Written),
        EventKind::Create(_) | EventKind::Modify(_) | EventKind::Any | EventKind::Other => {
            Some(Step::Writing)
        }
        // Somebody reads it; mostly this program.
        EventKind::Access(_) => None,
    }
}

fn comes_or_goes(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::Create(_) | EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_))
    )
}

fn target(path: &Path, directory: &Path) -> Target {
    let name = path.strip_prefix(directory).ok().and_then(Path::to_str);
    match name.filter(|name| format_of(name).is_some()) {
        Some(name) => Target::File(name.to_owned()),
        None => Target::Directory,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::model::ObjectKey;

    fn manifest(name: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{clusterIP: 10.0.0.1}}\n"
        )
    }

    fn keys(changes: &[Change]) -> Vec<(String, bool)> {
        let known = |change: &Change| matches!(change, Change::Service(_, Some(_)));
        changes
            .iter()
            .map(|change| match change.key() {
                ObjectKey::Service(name)
                | ObjectKey::EndpointSlice(name)
                | ObjectKey::Node(name)
                | ObjectKey::ServiceCidr(name) => (name.name.to_string(), known(change)),
            })
            .collect()
    }

    #[tokio::test]
    async fn follows_a_directory_through_everything_that_happens_to_it() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("manifests");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("a.yaml"), manifest("a")).unwrap();
        let (mut manifests, first) = Manifests::open(&path).unwrap();
        assert_eq!(keys(&first), [("a".into(), true)]);

        fs::write(path.join("b.yaml"), manifest("b")).unwrap();
        assert_eq!(keys(&manifests.next().await), [("b".into(), true)]);

        fs::write(path.join(".c.tmp"), manifest("c")).unwrap();
        fs::rename(path.join(".c.tmp"), path.join("c.yaml")).unwrap();
        assert_eq!(keys(&manifests.next().await), [("c".into(), true)]);

        fs::remove_file(path.join("a.yaml")).unwrap();
        assert_eq!(keys(&manifests.next().await), [("a".into(), false)]);

        // The directory goes away, and another one comes in its place.
        let aside = temporary.path().join("aside");
        fs::rename(&path, &aside).unwrap();
        let waited = tokio::time::timeout(Duration::from_millis(300), manifests.next()).await;
        assert!(waited.is_err(), "{waited:?}");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("b.yaml"), manifest("b")).unwrap();
        assert_eq!(keys(&manifests.next().await), [("c".into(), false)]);
        fs::write(path.join("d.yaml"), manifest("d")).unwrap();
        assert_eq!(keys(&manifests.next().await), [("d".into(), true)]);
    }

    #[tokio::test]
    async fn a_file_is_not_read_while_it_is_written() {
        use std::io::Write;

        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("a.yaml");
        fs::write(&path, format!("{}---\n{}", manifest("a"), manifest("b"))).unwrap();
        let (mut manifests, first) = Manifests::open(temporary.path()).unwrap();
        assert_eq!(first.len(), 2);
        let mut file = fs::File::create(&path).unwrap();
        file.write_all(manifest("a").as_bytes()).unwrap();
        // The whole directory is looked through in the meantime.
        fs::write(temporary.path().join("notes.txt"), "").unwrap();
        let waited = tokio::time::timeout(Duration::from_millis(300), manifests.next()).await;
        assert!(waited.is_err(), "{waited:?}");
        write!(file, "---\n{}", manifest("c")).unwrap();
        drop(file);
        assert_eq!(
            keys(&manifests.next().await),
            [("b".into(), false), ("c".into(), true)]
        );
    }

    #[test]
    fn a_missing_directory_is_named_at_start() {
        let error = Manifests::open(Path::new("/nonexistent/manifests"))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("--manifests: read manifest directory "),
            "{error}"
        );
        assert!(
            error.contains("/nonexistent/manifests") && error.contains("No such file"),
            "{error}"
        );
    }
}
