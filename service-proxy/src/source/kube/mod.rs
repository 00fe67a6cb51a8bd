//! The Kubernetes API as source.
//!
//! Every kind of object has a task of its own that lists and then watches ([`follow`]); what it reads becomes
//! small types of the model at once, and nothing else is kept.

mod access;
mod event;
mod failure;
mod follow;
mod incident;
mod resource;

use std::{collections::BTreeSet, sync::Arc};

use tokio::{
    sync::mpsc::{self, Receiver},
    task::JoinSet,
};

use super::News;

pub use access::{Access, Unusable};

use self::{follow::Follower, incident::Incidents, resource::Resource};

/// How many news wait to be taken at the most: enough for a burst to be taken at once, few enough to be small.
const WAITING: usize = 4096;

/// What the API server has, followed live.
#[derive(Debug)]
pub struct Kube {
    told: Receiver<Told>,
    /// What has not been told completely yet.
    missing: BTreeSet<Resource>,
    _tasks: JoinSet<()>,
}

/// What a task has to tell.
#[derive(Debug)]
enum Told {
    News(News),
    /// All there is of a resource has been told, or there is none to be had.
    Complete(Resource),
}

// === impl Kube ===

impl Kube {
    /// Begins to follow what a node's proxy needs. To be called in a runtime.
    pub fn follow(access: Access, node: &str) -> Self {
        let (sender, told) = mpsc::channel(WAITING);
        let incidents = Arc::new(Incidents::new(access.server()));
        let mut tasks = JoinSet::new();
        for resource in Resource::ALL {
            let follower = Follower::new(
                access.clone(),
                resource,
                node,
                sender.clone(),
                Arc::clone(&incidents),
            );
            tasks.spawn(follower.run());
        }
        Self {
            told,
            missing: Resource::ALL.into(),
            _tasks: tasks,
        }
    }

    /// Waits for the next news. Nothing is lost if the wait is given up.
    pub async fn next(&mut self) -> Vec<News> {
        let Some(first) = self.told.recv().await else {
            // The tasks never end.
            return std::future::pending().await;
        };
        let mut news = Vec::new();
        self.take(first, &mut news);
        while let Ok(more) = self.told.try_recv() {
            self.take(more, &mut news);
        }
        news
    }

    /// Whether everything that there is has been told once.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }

    fn take(&mut self, told: Told, news: &mut Vec<News>) {
        match told {
            Told::News(one) => news.push(one),
            Told::Complete(resource) => {
                self.missing.remove(&resource);
            }
        }
    }
}
