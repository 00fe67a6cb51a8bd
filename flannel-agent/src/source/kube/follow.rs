//! Following the Nodes of a cluster.

use std::{convert::Infallible, pin::pin, time::Duration};

use futures_util::{Stream, StreamExt};
use kube::core::{DynamicObject, WatchEvent};
use tokio::sync::watch;

use super::{Error, Nodes};
use crate::{
    backoff::Backoff,
    model::{Entry, Node, Snapshot},
    report::Notices,
};

/// A watch that has been silent for so long is dead: the server sends bookmarks once a minute.
const LONGEST_SILENCE: Duration = Duration::from_secs(180);

/// What is known of the Nodes; nothing before a whole list was read.
pub struct Followed {
    /// The own one.
    pub own: watch::Sender<Option<Node>>,
    /// The leases of the others, by their names.
    pub others: watch::Sender<Option<Snapshot>>,
}

/// Why a watch came to its end.
enum End {
    /// The server ends watches after some minutes; it is to be continued.
    Regular,
    Failed(Error),
}

/// Keeps up with the Nodes, for ever.
///
/// A list that fails has no effect, and a watch is continued where it ended. Where the server does not know
/// that place any more all is listed anew, and compared as a whole. No attempt follows another without a pause.
pub async fn follow(nodes: &Nodes, followed: &Followed) -> Infallible {
    let mut backoff = Backoff::default();
    let mut notices = Notices::default();
    let mut revision = None;
    loop {
        let attempt =
            follow_until_failure(nodes, followed, &mut revision, &mut backoff, &mut notices);
        let Err(error) = attempt.await;
        nodes.metrics().source_failed();
        nodes.metrics().source_behind();
        if error.is_expired() {
            tracing::info!("{error}; listing the nodes anew");
            revision = None;
        } else {
            notices.set([format!(
                "{error}; trying again, what stands in the kernel stays"
            )]);
        }
        backoff.wait().await;
    }
}

async fn follow_until_failure(
    nodes: &Nodes,
    followed: &Followed,
    revision: &mut Option<String>,
    backoff: &mut Backoff,
    notices: &mut Notices,
) -> Result<Infallible, Error> {
    loop {
        let mut from = match revision.take() {
            Some(revision) => revision,
            None => {
                let (all, revision) = nodes.list().await?;
                followed.replace(nodes, all);
                revision
            }
        };
        let events = nodes.watch(&from).await.inspect_err(|_| {
            *revision = Some(from.clone());
        })?;
        nodes.metrics().source_followed();
        if notices.clear() {
            tracing::info!("the nodes in Kubernetes are followed again");
        }
        let end = followed
            .apply(nodes, pin!(events), &mut from, backoff)
            .await;
        *revision = Some(from);
        match end {
            // A server that ends every watch at once is not to be asked as fast as it answers.
            End::Regular => backoff.wait().await,
            End::Failed(error) => return Err(error),
        }
    }
}

// === impl Followed ===

impl Followed {
    /// Takes over a whole list.
    fn replace(&self, nodes: &Nodes, all: Vec<Node>) {
        let (own, others): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|node| node.name == nodes.own_name);
        let mut snapshot = Snapshot {
            entries: others
                .into_iter()
                .filter_map(|node| Some((node.name.clone(), entry(&node)?)))
                .collect(),
            ..Snapshot::default()
        };
        set(&self.own, own.into_iter().next());
        nodes.metrics().received();
        self.others.send_if_modified(|before| {
            if let Some(before) = before {
                if before.entries == snapshot.entries {
                    return false;
                }
                snapshot.follow(before);
            }
            *before = Some(snapshot);
            true
        });
    }

    /// Takes over what happens, until the watch ends; `revision` is that of the last event.
    async fn apply(
        &self,
        nodes: &Nodes,
        mut events: impl Stream<Item = kube::Result<WatchEvent<DynamicObject>>> + Unpin,
        revision: &mut String,
        backoff: &mut Backoff,
    ) -> End {
        loop {
            let event = match tokio::time::timeout(LONGEST_SILENCE, events.next()).await {
                Err(_) => return End::Failed(Error::no_answer("watch nodes")),
                Ok(None) => return End::Regular,
                // One object that can't be read does not keep the others back.
                Ok(Some(Err(error))) if is_unreadable(&error) => {
                    tracing::warn!("an event of the watch on nodes can't be read and is ignored");
                    continue;
                }
                Ok(Some(Err(error))) => return End::Failed(Error::new("watch nodes", &error)),
                Ok(Some(Ok(event))) => event,
            };
            let object = match event {
                WatchEvent::Error(status) => {
                    return End::Failed(Error::status("watch nodes", &status));
                }
                WatchEvent::Bookmark(bookmark) => {
                    *revision = bookmark.metadata.resource_version;
                    backoff.reset();
                    continue;
                }
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    self.put(nodes, nodes.node(&object));
                    object
                }
                WatchEvent::Deleted(object) => {
                    self.remove(nodes, &nodes.node(&object).name);
                    object
                }
            };
            // The watch stands and the server answers: the next failure is a new one.
            backoff.reset();
            revision.clone_from(&object.metadata.resource_version.unwrap_or_default());
        }
    }

    fn put(&self, nodes: &Nodes, node: Node) {
        if node.name == nodes.own_name {
            set(&self.own, Some(node));
            return;
        }
        let entry = entry(&node);
        self.others.send_if_modified(|snapshot| {
            let Some(snapshot) = snapshot else {
                return false;
            };
            // Kubelets write to their Nodes every few seconds.
            if snapshot.entries.get(&node.name) == entry.as_ref() {
                return false;
            }
            nodes.metrics().received();
            match entry {
                Some(entry) => snapshot.put(node.name, entry),
                None => {
                    snapshot.remove(&node.name);
                }
            }
            true
        });
    }

    fn remove(&self, nodes: &Nodes, name: &str) {
        if *name == nodes.own_name {
            set(&self.own, None);
            return;
        }
        self.others.send_if_modified(|snapshot| {
            let snapshot = snapshot.as_mut();
            let is_gone = snapshot.is_some_and(|it| it.remove(name));
            if is_gone {
                nodes.metrics().received();
            }
            is_gone
        });
    }
}

/// Whether a line was no event. The client takes any other object for a Status, an empty one then.
fn is_unreadable(error: &kube::Error) -> bool {
    match error {
        kube::Error::SerdeError(_) => true,
        kube::Error::Api(status) => status.code == 0 && status.message.is_empty(),
        _ => false,
    }
}

/// The lease of a Node, if an agent keeps one for it.
fn entry(node: &Node) -> Option<Entry> {
    Some(Entry {
        lease: node.lease()?,
        mod_revision: 0,
        etcd_lease: 0,
    })
}

/// Tells only what is new.
fn set<T: PartialEq>(sender: &watch::Sender<Option<T>>, value: Option<T>) {
    sender.send_if_modified(|before| {
        let changed = *before != value;
        *before = value;
        changed
    });
}
