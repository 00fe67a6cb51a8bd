//! All objects, one counter of revisions, and what happened since the last compaction.
//!
//! The state at an earlier revision is the present one with the history undone, which is what a list in
//! pages needs. Watches keep a revision and read the history on from there, each at its own pace.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::watch;

use super::{
    failure::Failure,
    object::{Key, Object},
    resource::{RESOURCES, Resource},
};

/// The objects of all kinds, shared by all requests.
#[derive(Debug)]
pub struct Store {
    inner: RwLock<Inner>,
    revision: watch::Sender<u64>,
}

/// The store under its lock.
#[derive(Debug)]
pub struct Inner {
    revision: u64,
    history: usize,
    tables: Vec<Table>,
}

#[derive(Debug, Default)]
struct Table {
    objects: BTreeMap<Key, Arc<Object>>,
    history: VecDeque<Entry>,
    /// The history up to and with this revision is gone.
    compacted: u64,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When.
    pub revision: u64,
    /// What.
    pub what: Happening,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Happening {
    /// An object was created or changed.
    Written {
        /// What it was before.
        old: Option<Arc<Object>>,
        /// What it is now.
        new: Arc<Object>,
    },
    /// An object was deleted.
    Deleted {
        /// What it was.
        old: Arc<Object>,
        /// The same under the revision of the deletion.
        last: Arc<Object>,
    },
    /// A test sent a line of its own to all watches.
    Line(Bytes),
}

/// What a watch gets for going on from a revision.
#[derive(Debug)]
pub struct News {
    /// In order.
    pub entries: Vec<Entry>,
    /// Everything up to and with this revision has been told.
    pub until: u64,
}

/// At most this much is told under one lock.
const NEWS: usize = 1000;

// === impl Store ===

impl Store {
    /// An empty store, which remembers this many changes of each kind of object.
    pub fn new(history: usize) -> Self {
        let inner = Inner {
            revision: 1,
            history,
            tables: RESOURCES.iter().map(|_| Table::default()).collect(),
        };
        Self {
            revision: watch::Sender::new(inner.revision),
            inner: RwLock::new(inner),
        }
    }

    /// The store for reading. Nothing that panics runs under the lock, so it is sound after a panic too.
    pub fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the store, then wakes the watches.
    pub fn write<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let (result, revision) = {
            let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
            (change(&mut inner), inner.revision)
        };
        self.revision.send_if_modified(|told| {
            let news = *told < revision;
            *told = revision.max(*told);
            news
        });
        result
    }

    /// Tells of every new revision.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }
}

// === impl Inner ===

impl Inner {
    /// The revision of the last change of any object.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// An object as it is now.
    pub fn get(&self, resource: &Resource, key: &Key) -> Option<&Arc<Object>> {
        self.tables.get(resource.index())?.objects.get(key)
    }

    /// Whether an object of this name is there.
    pub fn contains(&self, resource: &Resource, key: &Key) -> bool {
        self.get(resource, key).is_some()
    }

    /// Writes an object, which is complete apart from its resourceVersion.
    pub fn put(&mut self, resource: &Resource, key: Key, value: Value) -> Arc<Object> {
        self.revision += 1;
        let new = Arc::new(Object::new(resource, key.clone(), self.revision, value));
        if let Some(table) = self.tables.get_mut(resource.index()) {
            let old = table.objects.insert(key, Arc::clone(&new));
            let what = Happening::Written {
                old,
                new: Arc::clone(&new),
            };
            table.remember(self.revision, what, self.history);
        }
        new
    }

    /// Removes an object, and answers what watches are told of it.
    pub fn remove(&mut self, resource: &Resource, key: &Key) -> Option<Arc<Object>> {
        let table = self.tables.get_mut(resource.index())?;
        let old = table.objects.remove(key)?;
        self.revision += 1;
        let last = Arc::new(old.at_revision(resource, self.revision));
        let what = Happening::Deleted {
            old,
            last: Arc::clone(&last),
        };
        table.remember(self.revision, what, self.history);
        Some(last)
    }

    /// Sends a line to all watches of a resource, whatever it contains.
    pub fn inject(&mut self, resource: &Resource, line: Bytes) {
        self.revision += 1;
        if let Some(table) = self.tables.get_mut(resource.index()) {
            table.remember(self.revision, Happening::Line(line), self.history);
        }
    }

    /// Forgets all history, as etcd's compaction at the present revision does.
    pub fn compact(&mut self) {
        for table in &mut self.tables {
            table.history.clear();
            table.compacted = self.revision;
        }
    }

    /// The objects that existed at a revision, after a key, in order.
    ///
    /// # Errors
    /// 410 when the history does not reach back that far.
    pub fn objects(
        &self,
        resource: &Resource,
        revision: u64,
        namespace: Option<&str>,
        after: Option<&Key>,
    ) -> Result<Vec<Arc<Object>>, Failure> {
        let table = self.table(resource)?;
        let first = namespace.map(|namespace| Key::new(namespace, ""));
        let from = match (after, &first) {
            (Some(key), _) => Bound::Excluded(key),
            (None, Some(key)) => Bound::Included(key),
            (None, None) => Bound::Unbounded,
        };
        let inside = |key: &Key| namespace.is_none_or(|namespace| key.namespace == namespace);
        let mut objects: BTreeMap<&Key, &Arc<Object>> = table
            .objects
            .range((from, Bound::Unbounded))
            .take_while(|(key, _)| inside(key))
            .collect();
        if revision < table.compacted {
            return Err(Failure::expired(
                "The resourceVersion for the provided list is too old.",
            ));
        }
        let wanted = |key: &Key| after.is_none_or(|after| key > after) && inside(key);
        for entry in table.history.iter().rev() {
            if entry.revision <= revision {
                break;
            }
            entry.undo(&mut objects, wanted);
        }
        Ok(objects.into_values().cloned().collect())
    }

    /// What happened after a revision.
    ///
    /// # Errors
    /// 410 when the history does not reach back that far.
    pub fn news(&self, resource: &Resource, after: u64) -> Result<News, Failure> {
        let table = self.table(resource)?;
        if after < table.compacted {
            let message = format!("too old resource version: {after} ({})", table.compacted);
            return Err(Failure::expired(message));
        }
        let start = table
            .history
            .partition_point(|entry| entry.revision <= after);
        let entries: Vec<_> = table.history.range(start..).take(NEWS).cloned().collect();
        let until = match entries.last() {
            Some(last) if entries.len() == NEWS => last.revision,
            _ => self.revision.max(after),
        };
        Ok(News { entries, until })
    }

    fn table(&self, resource: &Resource) -> Result<&Table, Failure> {
        self.tables
            .get(resource.index())
            .ok_or_else(Failure::unknown_path)
    }
}

// === impl Table ===

impl Table {
    fn remember(&mut self, revision: u64, what: Happening, limit: usize) {
        self.history.push_back(Entry { revision, what });
        while self.history.len() > limit {
            if let Some(forgotten) = self.history.pop_front() {
                self.compacted = forgotten.revision;
            }
        }
    }
}

// === impl Entry ===

impl Entry {
    fn undo<'s>(
        &'s self,
        objects: &mut BTreeMap<&'s Key, &'s Arc<Object>>,
        wanted: impl Fn(&Key) -> bool,
    ) {
        match &self.what {
            Happening::Written { old: Some(old), .. } | Happening::Deleted { old, .. } => {
                if wanted(&old.key) {
                    objects.insert(&old.key, old);
                }
            }
            Happening::Written { old: None, new } => {
                objects.remove(&new.key);
            }
            Happening::Line(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn services() -> &'static Resource {
        Resource::by_plural("", "v1", "services").unwrap()
    }

    fn put(inner: &mut Inner, namespace: &str, name: &str) -> u64 {
        let key = Key::new(namespace, name);
        inner.put(services(), key, json!({"metadata": {}})).revision
    }

    fn names(inner: &Inner, revision: u64, after: Option<&Key>) -> Vec<(String, u64)> {
        inner
            .objects(services(), revision, None, after)
            .unwrap()
            .iter()
            .map(|object| (object.key.name.clone(), object.revision))
            .collect()
    }

    #[test]
    fn earlier_states_can_be_read_until_compaction() {
        Store::new(100).write(|inner| {
            put(inner, "x", "a");
            let before = put(inner, "x", "b");
            let changed = put(inner, "x", "a");
            inner.remove(services(), &Key::new("x", "b")).unwrap();
            put(inner, "x", "c");
            let now = inner.revision();

            let a_then_b = [("a".to_owned(), before - 1), ("b".to_owned(), before)];
            assert_eq!(names(inner, before, None), a_then_b);
            assert_eq!(
                names(inner, before, Some(&Key::new("x", "a"))),
                a_then_b[1..]
            );
            let a_then_c = [("a".to_owned(), changed), ("c".to_owned(), now)];
            assert_eq!(names(inner, now, None), a_then_c);

            inner.compact();
            let gone = inner.objects(services(), before, None, None).unwrap_err();
            assert_eq!((gone.code, gone.reason), (410, "Expired"));
            assert_eq!(names(inner, now, None), a_then_c);
        });
    }

    #[test]
    fn a_namespace_is_not_mixed_up_with_its_neighbours() {
        Store::new(100).write(|inner| {
            for namespace in ["a", "b", "c"] {
                put(inner, namespace, "one");
            }
            let now = inner.revision();
            let found = inner.objects(services(), now, Some("b"), None).unwrap();
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].key, Key::new("b", "one"));
        });
    }

    #[test]
    fn news_are_in_order_and_end_at_the_history() {
        Store::new(3).write(|inner| {
            let first = put(inner, "x", "a");
            put(inner, "x", "b");
            put(inner, "x", "c");
            let news = inner.news(services(), first).unwrap();
            let told: Vec<_> = news.entries.iter().map(|entry| entry.revision).collect();
            assert_eq!(told, [first + 1, first + 2]);
            assert_eq!(news.until, first + 2);
            put(inner, "x", "d");
            put(inner, "x", "e");
            assert_eq!(inner.news(services(), first).unwrap_err().code, 410);
            assert!(inner.news(services(), first + 1).is_ok());
        });
    }
}
