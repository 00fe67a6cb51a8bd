//! Keeping a lease: getting one, renewing it, and getting it back or another one when it is lost.

use std::{convert::Infallible, time::Duration};

use ipnetwork::IpNetwork;
use tokio::{sync::watch, time::Instant};

use crate::{
    backoff::Backoff,
    model::{Attributes, ByFamily, Claim, Guard, Held, Snapshot},
    plan::Claimant,
    report::Notices,
    source::etcd::{Error, Outcome, Registry},
};

/// How often a full network is looked at again.
const FULL_INTERVAL: Duration = Duration::from_secs(1);

/// Keeps a node's lease.
///
/// There is one way to a lease, for the first one, for a renewal and after a loss: read all leases, see
/// which claim is right by what stands there, and write that if it is still so.
pub struct Keeper {
    /// Where leases are.
    pub registry: Registry,
    /// Who wants one.
    pub claimant: Claimant,
    /// How long after it was written a lease is renewed.
    pub renew_after: Duration,
}

/// What one attempt came to.
enum Attempt {
    Held(Held),
    Raced,
    Full(String),
}

// === impl Keeper ===

impl Keeper {
    /// Keeps a lease for ever, and tells which. `previous` are the subnets that the node had before;
    /// `own` tells when there is something else to be said in the lease.
    pub async fn run(
        &mut self,
        previous: ByFamily<IpNetwork>,
        mut own: watch::Receiver<Attributes>,
        mut snapshots: watch::Receiver<Option<Snapshot>>,
        sender: &watch::Sender<Option<Held>>,
    ) -> Infallible {
        let mut held = self.acquire(&previous).await;
        let mut due = Instant::now() + self.renew_after;
        let mut revision = 0;
        let mut contested = Backoff::default();
        loop {
            sender.send_replace(Some(held));
            let before = held;
            tokio::select! {
                () = tokio::time::sleep_until(due) => {
                    contested.reset();
                    held = self.take(Some(before), true, before.key.subnets()).await;
                    // Also where nothing was written, as for a reservation.
                    due = Instant::now() + self.renew_after;
                }
                () = disagreement(&before, &mut revision, &mut snapshots) => {
                    held = self.take(Some(before), false, before.key.subnets()).await;
                }
                Ok(()) = own.changed() => {
                    contested.reset();
                    self.claimant.own = own.borrow_and_update().clone();
                    held = self.take(Some(before), true, before.key.subnets()).await;
                }
            }
            // A lease that was lost is written anew; otherwise the snapshot was behind.
            if held != before {
                due = Instant::now() + self.renew_after;
                sender.send_replace(Some(held));
                // Two nodes that take themselves for one must not write as fast as they can.
                contested.wait().await;
            }
        }
    }

    /// Gets a first lease, however long it takes.
    pub async fn acquire(&self, previous: &ByFamily<IpNetwork>) -> Held {
        self.take(None, true, previous).await
    }

    /// Gets a lease, however long it takes. `before` is the one held so far; if it still stands as it was
    /// written, it is written again only if it `must` be.
    async fn take(
        &self,
        mut before: Option<Held>,
        must: bool,
        previous: &ByFamily<IpNetwork>,
    ) -> Held {
        let mut backoff = Backoff::default();
        let mut notices = Notices::default();
        loop {
            match self.attempt(&mut before, must, previous).await {
                Ok(Attempt::Held(held)) => {
                    if notices.clear() {
                        tracing::info!("lease {} is held", held.key);
                    }
                    return held;
                }
                Ok(Attempt::Raced) => tracing::info!("another node was faster; choosing again"),
                Ok(Attempt::Full(full)) => {
                    notices.set([format!("{full}; waiting until one is free")]);
                    tokio::time::sleep(FULL_INTERVAL).await;
                }
                Err(error) => {
                    notices.set([format!("{error}; trying again")]);
                    backoff.wait().await;
                }
            }
        }
    }

    /// Clears `before` when that turns out to be lost, so that this is said once.
    async fn attempt(
        &self,
        before: &mut Option<Held>,
        must: bool,
        previous: &ByFamily<IpNetwork>,
    ) -> Result<Attempt, Error> {
        let snapshot = self.registry.leases().await?;
        match *before {
            Some(held) if snapshot.has(&held) && !must => return Ok(Attempt::Held(held)),
            Some(held) if !snapshot.has(&held) => {
                self.log_loss(&held, &snapshot);
                *before = None;
            }
            _ => {}
        }
        let claim = match self.claimant.claim(before.as_ref(), previous, &snapshot) {
            Ok(claim) => claim,
            Err(full) => return Ok(Attempt::Full(full.to_string())),
        };
        if let Some(held) = self.held_already(&claim, &snapshot) {
            return Ok(Attempt::Held(held));
        }
        let own = &self.claimant.own;
        match self.registry.write(&claim, own, snapshot.revision).await? {
            Outcome::Raced => Ok(Attempt::Raced),
            Outcome::Written(held) => {
                log_written(&claim, &held, previous);
                Ok(Attempt::Held(held))
            }
        }
    }

    /// A reservation that says already what it should has nothing to be written.
    fn held_already(&self, claim: &Claim, snapshot: &Snapshot) -> Option<Held> {
        let Guard::Unchanged {
            mod_revision,
            reservation: true,
        } = claim.guard
        else {
            return None;
        };
        let entry = snapshot.entries.get(&claim.key.to_string())?;
        let lease = entry.lease.as_ref().ok()?;
        (lease.attributes == self.claimant.own).then_some(Held {
            key: claim.key,
            mod_revision,
            reservation: true,
        })
    }

    /// Says loudly what became of a lease.
    fn log_loss(&self, held: &Held, snapshot: &Snapshot) {
        let key = format!("{}{}", self.registry.leases_prefix(), held.key);
        match snapshot.entries.get(&held.key.to_string()) {
            None => tracing::error!(
                "this node's lease {key} is gone from etcd: taking it again if it is free"
            ),
            Some(entry) => match &entry.lease {
                Ok(lease) if !lease.attributes.is_same_node(&self.claimant.own) => tracing::error!(
                    "this node's lease {key} was overwritten and now belongs to another node: {}; \
                     taking another subnet, pods on this node have to be started again",
                    lease.attributes.to_json()
                ),
                _ => tracing::warn!(
                    "this node's lease {key} was changed by somebody else: writing it as it should be \
                     (is there another node with this one's public address?)"
                ),
            },
        }
    }
}

/// Comes back when a snapshot does not have the lease as it was written, or is older than one before it:
/// then the store went back in time, and may have forgotten the lease.
async fn disagreement(
    held: &Held,
    revision: &mut i64,
    snapshots: &mut watch::Receiver<Option<Snapshot>>,
) {
    // The sender lives as long as the agent.
    while snapshots.changed().await.is_ok() {
        let snapshot = snapshots.borrow_and_update();
        let Some(snapshot) = snapshot.as_ref() else {
            continue;
        };
        let went_back = snapshot.revision < *revision;
        *revision = snapshot.revision;
        if went_back || snapshot.revision >= held.mod_revision && !snapshot.has(held) {
            return;
        }
    }
    std::future::pending().await
}

fn log_written(claim: &Claim, held: &Held, previous: &ByFamily<IpNetwork>) {
    let how = match &claim.guard {
        Guard::Unchanged {
            reservation: true, ..
        } => "taken, which is reserved for this node",
        Guard::Unchanged { .. } => "renewed",
        Guard::Free { .. } if held.key.subnets() == previous => "taken, which this node had before",
        Guard::Free { .. } => "taken",
    };
    tracing::info!("lease {} is {how}", held.key);
}
