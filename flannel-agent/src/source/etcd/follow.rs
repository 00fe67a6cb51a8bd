//! Following the leases of all nodes.

use std::convert::Infallible;

use etcd_client::{EventType, WatchResponse};
use tokio::sync::watch;

use super::{Error, Registry};
use crate::{backoff::Backoff, model::Snapshot, report::Notices};

/// Keeps a snapshot of all leases up to date, for ever.
///
/// After any failure (lost connection, compacted history, restored older store) everything is read again:
/// receivers compare whole snapshots with what they have, so that nothing gets lost between two watches.
pub async fn follow(
    registry: &Registry,
    snapshots: &watch::Sender<Option<Snapshot>>,
) -> Infallible {
    let mut backoff = Backoff::default();
    let mut notices = Notices::default();
    loop {
        let error =
            match follow_until_failure(registry, snapshots, &mut backoff, &mut notices).await {
                Ok(never) => match never {},
                Err(error) => error,
            };
        notices.set([format!(
            "{error}; trying again, what stands in the kernel stays"
        )]);
        backoff.wait().await;
    }
}

async fn follow_until_failure(
    registry: &Registry,
    snapshots: &watch::Sender<Option<Snapshot>>,
    backoff: &mut Backoff,
    notices: &mut Notices,
) -> Result<Infallible, Error> {
    let snapshot = registry.leases().await?;
    let mut watch = registry.watch_leases(snapshot.revision + 1).await?;
    snapshots.send_replace(Some(snapshot));
    loop {
        let response = watch.next().await?;
        // The watch stands and the server answers: the next failure is a new one.
        backoff.reset();
        if notices.clear() {
            tracing::info!("the leases in etcd are followed again");
        }
        snapshots.send_if_modified(|snapshot| {
            snapshot
                .as_mut()
                .is_some_and(|snapshot| apply(registry, snapshot, &response))
        });
    }
}

/// Whether there was something to apply.
fn apply(registry: &Registry, snapshot: &mut Snapshot, response: &WatchResponse) -> bool {
    for event in response.events() {
        let Some(kv) = event.kv() else { continue };
        snapshot.revision = snapshot.revision.max(kv.mod_revision());
        match event.event_type() {
            EventType::Put => snapshot.entries.extend(registry.entry(kv)),
            EventType::Delete => {
                registry
                    .name(kv)
                    .and_then(|name| snapshot.entries.remove(&name));
            }
        }
    }
    !response.events().is_empty()
}
