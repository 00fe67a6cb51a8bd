//! When a file that is being written is complete enough to be read.
//!
//! Pure: what happened is told with the time at which it did.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// After a file was closed, renamed or removed: long enough for a file that is removed and written anew to be
/// taken as one change.
const WRITTEN: Duration = Duration::from_millis(10);
/// After a write without a close: a writer that waits longer between two writes is taken to be done.
const WRITING: Duration = Duration::from_secs(1);

/// What happened to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is being written.
    Writing,
    /// It is complete, or gone.
    Written,
}

/// What has to be read again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// The directory: which files there are, and all that differ.
    Directory,
    /// A file of a name.
    File(String),
}

/// What has to be read again, and from when on.
#[derive(Debug, Default)]
pub struct Settle {
    due: BTreeMap<Target, Instant>,
}

// === impl Settle ===

impl Settle {
    /// Takes note of what happened at a time.
    pub fn note(&mut self, target: Target, step: Step, now: Instant) {
        let due = match (step, self.due.get(&target)) {
            (Step::Writing, _) => now + WRITING,
            // A file that is replaced again and again is read all the same.
            (Step::Written, Some(due)) => (*due).min(now + WRITTEN),
            (Step::Written, None) => now + WRITTEN,
        };
        self.due.insert(target, due);
    }

    /// When there is something to be read, if there will be.
    pub fn due(&self) -> Option<Instant> {
        self.due.values().min().copied()
    }

    /// The files that are not complete yet.
    pub fn unsettled(&self) -> BTreeSet<String> {
        let files = self.due.keys().filter_map(|target| match target {
            Target::Directory => None,
            Target::File(name) => Some(name.clone()),
        });
        files.collect()
    }

    /// Takes out what is to be read by now.
    pub fn take(&mut self, now: Instant) -> BTreeSet<Target> {
        let due = |(target, due): (&Target, &Instant)| (*due <= now).then(|| target.clone());
        let ready: BTreeSet<Target> = self.due.iter().filter_map(due).collect();
        self.due.retain(|_, due| *due > now);
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_once_it_is_closed_and_the_others_do_not_wait_for_it() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let [a, b] = ["a", "b"].map(|name| Target::File(name.into()));
        let mut settle = Settle::default();
        assert_eq!(settle.due(), None);
        settle.note(a.clone(), Step::Writing, at(0));
        settle.note(b.clone(), Step::Written, at(1));
        assert_eq!(settle.due(), Some(at(11)));
        assert_eq!(settle.take(at(10)), BTreeSet::new());
        assert_eq!(settle.take(at(11)), BTreeSet::from([b]));
        assert_eq!(settle.due(), Some(at(1000)));
        assert_eq!(settle.unsettled(), BTreeSet::from(["a".to_owned()]));
        settle.note(a.clone(), Step::Writing, at(900));
        assert_eq!(settle.take(at(1899)), BTreeSet::new());
        settle.note(a.clone(), Step::Written, at(1899));
        assert_eq!(settle.take(at(1909)), BTreeSet::from([a]));
        assert_eq!(settle.due(), None);
    }

    #[test]
    fn a_file_that_is_replaced_all_the_time_does_not_wait_for_ever() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let file = Target::File("a".into());
        let mut settle = Settle::default();
        for millis in [0, 5, 9] {
            settle.note(file.clone(), Step::Written, at(millis));
        }
        assert_eq!(settle.take(at(10)), BTreeSet::from([file]));
        assert_eq!(settle.due(), None);
    }
}
