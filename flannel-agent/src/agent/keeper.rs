//! Keeping a lease: getting one, renewing it, and getting it back or another one when it is lost.

use std::{convert::Infallible, time::Duration};

use ipnetwork::IpNetwork;
use tokio::{sync::watch, time::Instant};

use crate::{
    backoff::Backoff,
    model::{Attributes, ByFamily, Claim, Guard, Held, NetConf, Owners, Snapshot},
    plan::{Claimant, History, Loss},
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
    /// The network configuration, whose subnets may change.
    pub conf: watch::Receiver<NetConf>,
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
        // All leases are read but once at a start, by who follows them.
        let known = first(&mut snapshots).await;
        let mut revision = known.revision;
        let mut held = self.acquire(&previous, Some(known)).await;
        let mut due = Instant::now() + self.renew_after;
        let mut contested = Backoff::default();
        loop {
            sender.send_replace(Some(held));
            let before = held;
            tokio::select! {
                () = tokio::time::sleep_until(due) => {
                    contested.reset();
                    held = self.take(keeps(before), true).await;
                    // Also where nothing was written, as for a reservation.
                    due = Instant::now() + self.renew_after;
                }
                () = disagreement(&before, &mut revision, &mut snapshots) => {
                    held = self.take(keeps(before), false).await;
                }
                Ok(()) = own.changed() => {
                    contested.reset();
                    self.claimant.own = own.borrow_and_update().clone();
                    held = self.take(keeps(before), true).await;
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

    /// Gets a first lease, however long it takes. `known` are all leases, as far as they are known already: a
    /// claim that others were faster than is made again with what is read then.
    pub async fn acquire(
        &self,
        previous: &ByFamily<IpNetwork>,
        mut known: Option<Snapshot>,
    ) -> Held {
        let history = History {
            previous: *previous,
            ..History::default()
        };
        self.take_by(history, true, &mut known).await
    }

    /// Gets a lease, however long it takes. If the one held so far still stands as it was written, it is
    /// written again only if it `must` be.
    async fn take(&self, history: History, must: bool) -> Held {
        self.take_by(history, must, &mut None).await
    }

    /// The same, with what is `known` already.
    async fn take_by(
        &self,
        mut history: History,
        must: bool,
        known: &mut Option<Snapshot>,
    ) -> Held {
        let mut backoff = Backoff::default();
        let mut notices = Notices::default();
        loop {
            match self.attempt(&mut history, must, known.take()).await {
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

    /// Notes in the history when the lease turns out to be lost, so that this is said once.
    async fn attempt(
        &self,
        history: &mut History,
        must: bool,
        known: Option<Snapshot>,
    ) -> Result<Attempt, Error> {
        let snapshot = match known {
            Some(snapshot) => snapshot,
            None => self.registry.leases().await?,
        };
        if let Some(held) = history.written.filter(|held| !must && snapshot.has(held)) {
            return Ok(Attempt::Held(held));
        }
        let owners = self.registry.owners(&snapshot).await?;
        if let Some(held) = history.written.filter(|held| !snapshot.has(held)) {
            self.registry.metrics().lease_lost();
            let loss = self.claimant.loss(&held, &snapshot, &owners);
            self.log_loss(loss, &held, &snapshot, &owners);
            history.written = None;
            history.gone = (loss == Loss::Gone).then_some(held.key);
            history.lost = (loss == Loss::Taken).then_some(held.key);
        }
        let claimant = Claimant {
            pools: self.conf.borrow().pools,
            ..self.claimant.clone()
        };
        let claim = match claimant.claim(history, &snapshot, &owners) {
            Ok(claim) => claim,
            Err(full) => return Ok(Attempt::Full(full.to_string())),
        };
        if let Some(held) = self.held_already(&claim, &snapshot, &owners) {
            return Ok(Attempt::Held(held));
        }
        let Claimant { own, owner, .. } = &self.claimant;
        let read = snapshot.revision;
        match self.registry.write(&claim, own, owner, read).await? {
            Outcome::Raced => Ok(Attempt::Raced),
            Outcome::Written(held) => {
                self.registry.metrics().lease_written();
                log_written(&claim, &held, &history.previous);
                if matches!(claim.guard, Guard::Free { .. }) {
                    self.log_namesakes(&snapshot, &owners);
                }
                Ok(Attempt::Held(held))
            }
        }
    }

    /// A reservation that says already what it should has nothing to be written.
    fn held_already(&self, claim: &Claim, snapshot: &Snapshot, owners: &Owners) -> Option<Held> {
        let Guard::Unchanged {
            mod_revision,
            reservation: true,
        } = claim.guard
        else {
            return None;
        };
        let name = claim.key.to_string();
        owners.of(&name)?;
        let lease = snapshot.entries.get(&name)?.lease.as_ref().ok()?;
        (lease.attributes == self.claimant.own).then_some(Held {
            key: claim.key,
            mod_revision,
            reservation: true,
        })
    }

    /// Says loudly what became of a lease.
    fn log_loss(&self, loss: Loss, held: &Held, snapshot: &Snapshot, owners: &Owners) {
        let key = format!("{}{}", self.registry.leases_prefix(), held.key);
        match loss {
            Loss::Unheard => {}
            Loss::Gone => tracing::error!(
                "this node's lease {key} is gone from etcd: taking it again if it is free"
            ),
            Loss::Changed => tracing::warn!(
                "this node's lease {key} was changed by somebody else: writing it as it should be"
            ),
            Loss::Taken => tracing::error!(
                "this node's lease {key} was overwritten and now belongs to another node: {}; \
                 taking another subnet, pods on this node have to be started again",
                self.taker(held, snapshot, owners)
            ),
        }
    }

    /// What there is to know of who has taken a lease.
    fn taker(&self, held: &Held, snapshot: &Snapshot, owners: &Owners) -> String {
        let name = held.key.to_string();
        let lease = snapshot.entries.get(&name);
        let lease = lease.and_then(|entry| entry.lease.as_ref().ok());
        let value = lease.map_or_else(String::new, |lease| lease.attributes.to_json());
        owners.of(&name).map_or_else(
            || value.clone(),
            |owner| format!("{value}, written by {} {}", owner.name, owner.to_json()),
        )
    }

    /// Says loudly which other nodes have this one's public address: not all of them can be reached.
    fn log_namesakes(&self, snapshot: &Snapshot, owners: &Owners) {
        for (key, owner) in self.claimant.namesakes(snapshot, owners) {
            tracing::error!(
                "lease {key} has this node's public address, but another node, {} {}, has written it: leaving \
                 it alone; only one of the two can be reached, see --public-ip (an earlier node's lease \
                 ends by itself)",
                owner.name,
                owner.to_json()
            );
        }
    }
}

/// What a node knows that holds a lease.
const fn keeps(held: Held) -> History {
    History {
        written: Some(held),
        gone: None,
        lost: None,
        previous: *held.key.subnets(),
    }
}

/// The first snapshot that there is.
async fn first(snapshots: &mut watch::Receiver<Option<Snapshot>>) -> Snapshot {
    // The sender lives as long as the agent.
    while snapshots.changed().await.is_ok() {
        if let Some(snapshot) = snapshots.borrow_and_update().as_ref() {
            return snapshot.clone();
        }
    }
    std::future::pending().await
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
