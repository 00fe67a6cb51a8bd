//! How many requests of which kind were made, for tests that assert what a client did.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde::{Deserialize, Serialize};

/// What a request does, as RBAC names it.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// GET of one object.
    Get,
    /// GET of a collection; each page counts.
    List,
    /// GET of a collection with `watch`.
    Watch,
    /// POST.
    Create,
    /// PUT.
    Update,
    /// PATCH.
    Patch,
    /// DELETE of one object.
    Delete,
    /// DELETE of a collection.
    DeleteCollection,
}

/// Counts requests, those that are refused too.
#[derive(Debug, Default)]
pub struct Counters {
    requests: Mutex<BTreeMap<(String, Verb), u64>>,
    open_watches: Arc<AtomicUsize>,
}

/// Counts as an open watch until it is dropped.
#[derive(Debug)]
pub struct OpenWatch(Arc<AtomicUsize>);

// === impl Counters ===

impl Counters {
    /// How many requests were made of a kind of object (`services`, `endpointslices.discovery.k8s.io`).
    pub fn requests(&self, resource: &str, verb: Verb) -> u64 {
        let counts = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = counts.get(&(resource.to_owned(), verb));
        counted.copied().unwrap_or_default()
    }

    /// All counts, by kind of object and verb.
    pub fn all(&self) -> BTreeMap<(String, Verb), u64> {
        let counts = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        counts.clone()
    }

    /// How many watches run now.
    pub fn open_watches(&self) -> usize {
        self.open_watches.load(Ordering::SeqCst)
    }

    pub(super) fn count(&self, resource: &str, verb: Verb) {
        let mut counts = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((resource.to_owned(), verb)).or_default() += 1;
    }

    pub(super) fn open_watch(&self) -> OpenWatch {
        self.open_watches.fetch_add(1, Ordering::SeqCst);
        OpenWatch(Arc::clone(&self.open_watches))
    }
}

impl Drop for OpenWatch {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
