//! What a person gets to read of trouble with the API server: one line when it begins, one when it is over.
//!
//! All tasks lose a server together, and each tries again many times: that is one incident.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{
    failure::{Failure, Sort},
    resource::Resource,
};

/// The trouble that there is.
#[derive(Debug)]
pub struct Incidents {
    server: String,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    /// What has been told.
    told: BTreeSet<(Sort, Option<Resource>)>,
    troubled: BTreeSet<Resource>,
    since: Option<Instant>,
}

/// What to do about a 403.
const ROLE: &str =
    "the cluster role needs the verbs list and watch for it (system:node-proxier has them)";

// === impl Incidents ===

impl Incidents {
    /// No trouble yet with a server.
    pub fn new(server: &str) -> Self {
        Self {
            server: server.to_owned(),
            open: Mutex::default(),
        }
    }

    /// A request came to nothing, or a watch to a bad end.
    pub fn failed(&self, resource: Resource, failure: &Failure) {
        let is_new = self.open().note(resource, failure.sort());
        if is_new {
            tracing::warn!(
                "API server {}, {resource}: {failure}; {}",
                self.server,
                advice(failure.sort())
            );
        }
    }

    /// A resource that can be done without is none that the server has, or lets us have.
    pub fn none_to_be_had(&self, resource: Resource, failure: &Failure) {
        if failure.is_unknown() {
            tracing::info!(
                "API server {}: it has no {resource}; goes on without",
                self.server
            );
        } else {
            tracing::warn!(
                "API server {}, {resource}: {failure}; goes on without; {ROLE}",
                self.server
            );
        }
    }

    /// A resource is followed (again).
    pub fn is_well(&self, resource: Resource) {
        let ended = self.open().end(resource);
        if let Some(lasted) = ended {
            tracing::info!(
                "API server {}: everything is followed again after {:.1} s",
                self.server,
                lasted.as_secs_f64()
            );
        }
    }

    fn open(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Open ===

impl Open {
    /// Takes note of a failure; answers whether there was none of its sort in this incident yet. A lost
    /// connection and lost history concern all resources alike.
    fn note(&mut self, resource: Resource, sort: Sort) -> bool {
        self.since.get_or_insert_with(Instant::now);
        self.troubled.insert(resource);
        let about = match sort {
            Sort::Connection | Sort::Gone => None,
            Sort::Status(_) | Sort::Garbage => Some(resource),
        };
        self.told.insert((sort, about))
    }

    /// A resource is well; answers how long the incident lasted if that ends it.
    fn end(&mut self, resource: Resource) -> Option<Duration> {
        if !self.troubled.remove(&resource) || !self.troubled.is_empty() {
            return None;
        }
        self.told.clear();
        self.since.take().map(|since| since.elapsed())
    }
}

fn advice(sort: Sort) -> &'static str {
    match sort {
        Sort::Gone => "listed anew; until that is complete, all that is known stays in force",
        Sort::Status(401) => "check the token or certificate of the kubeconfig or service account",
        Sort::Status(403) => ROLE,
        _ => "all that is known stays in force; tried again, less and less often",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sort_of_trouble_is_told_once_until_it_is_over() {
        let mut open = Open::default();
        let [services, slices, node, _] = Resource::ALL;
        for (resource, sort, is_new) in [
            (services, Sort::Connection, true),
            (slices, Sort::Connection, false),
            (services, Sort::Connection, false),
            (services, Sort::Gone, true),
            (slices, Sort::Gone, false),
            (services, Sort::Status(403), true),
            (slices, Sort::Status(403), true),
            (slices, Sort::Status(403), false),
            (slices, Sort::Status(500), true),
        ] {
            assert_eq!(open.note(resource, sort), is_new, "{resource} {sort:?}");
        }
        assert_eq!(open.end(node), None);
        assert_eq!(open.end(services), None);
        assert!(open.end(slices).is_some());
        assert_eq!(open.end(slices), None);
        assert!(open.note(slices, Sort::Connection));
    }
}
