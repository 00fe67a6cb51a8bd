//! Following the leases of all nodes.

use std::{convert::Infallible, time::Duration};

use etcd_client::{EventType, WatchResponse};
use tokio::{sync::watch, time::Instant};

use super::{Error, Registry};
use crate::{
    backoff::{Backoff, LONGEST},
    model::Snapshot,
    report::Notices,
};

/// How long leases count that are gone when everything is read again. A store that was restored or
/// emptied, or was out of reach until leases ended, has forgotten nodes that are well: they write theirs
/// again when they come back themselves, and their pods are to be reached until then.
const LINGERING: Duration = LONGEST.saturating_add(Duration::from_secs(2));

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
        registry.metrics().source_behind();
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
    let mut snapshot = registry.leases().await?;
    let mut watch = registry.watch_leases(snapshot.revision + 1).await?;
    let earlier = snapshots.borrow().clone();
    let mut lingers = earlier.is_some_and(|earlier| snapshot.keep_lingering(earlier));
    let end = Instant::now() + LINGERING;
    registry.metrics().source_followed();
    registry.metrics().received();
    snapshots.send_replace(Some(snapshot));
    loop {
        let response = tokio::select! {
            response = watch.next() => response?,
            () = tokio::time::sleep_until(end), if lingers => {
                lingers = false;
                snapshots.send_if_modified(|snapshot| snapshot.as_mut().is_some_and(end_lingering));
                continue;
            }
        };
        if !response.events().is_empty() {
            registry.metrics().received();
        }
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

/// Whether there was something to end.
fn end_lingering(snapshot: &mut Snapshot) -> bool {
    let names = snapshot.end_lingering();
    for name in &names {
        tracing::info!("lease {name} is gone, and was not written again");
    }
    !names.is_empty()
}

/// Whether there was something to apply.
fn apply(registry: &Registry, snapshot: &mut Snapshot, response: &WatchResponse) -> bool {
    for event in response.events() {
        let Some(kv) = event.kv() else { continue };
        snapshot.revision = snapshot.revision.max(kv.mod_revision());
        match event.event_type() {
            EventType::Put => {
                if let Some((name, entry)) = registry.entry(kv) {
                    snapshot.put(name, entry);
                }
            }
            EventType::Delete => {
                if let Some(name) = registry.name(kv) {
                    snapshot.remove(&name);
                }
            }
        }
    }
    !response.events().is_empty()
}
