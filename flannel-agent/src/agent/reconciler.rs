//! Bringing the kernel and `subnet.env` in line with the leases.

mod devices;
mod entries;
mod status;
mod touched;

use std::{convert::Infallible, path::PathBuf, time::Duration};

use kernel::route::Handle;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior},
};

use super::{Drift, Site, changes::PeerChanges};
use crate::{
    model::{Attributes, Held, NetConf, Snapshot, SubnetEnv},
    options::Options,
    plan::{self, Watched},
    report::{self, CannotWrite, Health, Metrics, Notices, StatusRequest},
};

/// How often the kernel is looked at when nothing has happened.
const INTERVAL: Duration = Duration::from_secs(10);

/// How long to wait after an announced change: most do not come alone.
const DEBOUNCE: Duration = Duration::from_millis(5);

/// The least time between two reconciles after announced changes, so that another program that undoes
/// ours does not keep both busy.
const PAUSE: Duration = Duration::from_millis(100);

/// Where the leases of all nodes stand, for messages.
#[derive(Clone, Debug)]
pub struct LeasePlace {
    /// What goes before their names.
    pub prefix: String,
    /// Who keeps them.
    pub store: &'static str,
}

/// Brings the kernel in line.
pub struct Reconciler {
    kernel: Handle,
    site: Site,
    own: watch::Sender<Attributes>,
    conf: watch::Receiver<NetConf>,
    watched: Watched,
    /// The position in the snapshot up to which all of it stands in the kernel, if it does.
    position: Option<u64>,
    /// How many entries were invalid there.
    invalid: usize,
    cleaned: bool,
    subnet_file: PathBuf,
    ip_masq: bool,
    blackhole: bool,
    leases: LeasePlace,
    health: Health,
    peer_changes: PeerChanges,
    questions: mpsc::Receiver<StatusRequest>,
    metrics: Metrics,
    /// Whether nothing but the kernel has changed since all was right.
    repairs: bool,
    notices: Notices,
    failures: Notices,
}

/// Why a reconcile did not come to its end; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refuses something that all else depends on.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// The device is gone or has changed since it was made.
    #[error("{0} does not stay as it was made: does another program configure it?")]
    Device(kernel::IfName),
    /// `subnet.env` can't be written.
    #[error(transparent)]
    SubnetFile(#[from] CannotWrite),
    /// The kernel refuses some of the entries.
    #[error("{refused} of {all} changes were refused, the first: {first}")]
    Refused {
        /// How many.
        refused: usize,
        /// Out of how many.
        all: usize,
        /// The first of them.
        first: kernel::Error,
    },
}

// === impl Reconciler ===

impl Reconciler {
    /// A reconciler; `own` is told what the node says in its lease, and `leases` is where those of all nodes
    /// stand.
    pub fn new(
        kernel: Handle,
        site: Site,
        own: watch::Sender<Attributes>,
        conf: watch::Receiver<NetConf>,
        options: &Options,
        leases: LeasePlace,
        told: report::Told,
    ) -> Self {
        let report::Told {
            health,
            metrics,
            questions,
        } = told;
        Self {
            kernel,
            site,
            own,
            conf,
            watched: Watched::default(),
            position: None,
            invalid: 0,
            cleaned: false,
            subnet_file: options.subnet_file.clone(),
            ip_masq: options.ip_masq,
            blackhole: options.ip_blackhole_route,
            leases,
            health,
            peer_changes: PeerChanges::default(),
            questions,
            metrics,
            repairs: false,
            notices: Notices::default(),
            failures: Notices::default(),
        }
    }

    /// Reconciles at every change, of leases and in the kernel, and at intervals, for ever; first when
    /// there are both a lease and a complete snapshot.
    pub async fn run(
        &mut self,
        drift: &mut Drift,
        mut held: watch::Receiver<Option<Held>>,
        mut snapshots: watch::Receiver<Option<Snapshot>>,
    ) -> Infallible {
        let mut timer = tokio::time::interval(INTERVAL);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut due: Option<Instant> = None;
        let mut earliest = Instant::now();
        loop {
            let mut leases_alone = false;
            // The senders live as long as the agent; without them the others go on.
            tokio::select! {
                Ok(()) = held.changed() => self.repairs = false,
                Ok(()) = self.conf.changed() => self.repairs = false,
                Ok(()) = snapshots.changed() => {
                    self.repairs = false;
                    leases_alone = !held.has_changed().is_ok_and(|it| it);
                }
                Some(question) = self.questions.recv() => {
                    let snapshot = snapshots.borrow().clone();
                    self.answer(question, *held.borrow(), snapshot);
                    continue;
                }
                _ = timer.tick() => {}
                () = drift.next(&self.watched), if due.is_none() => {
                    due = Some(earliest.max(Instant::now() + DEBOUNCE));
                    continue;
                }
                () = tokio::time::sleep_until(due.unwrap_or(earliest)), if due.is_some() => {
                    earliest = Instant::now() + PAUSE;
                }
            }
            let snapshot = snapshots.borrow_and_update();
            let now = *held.borrow();
            // What is known to stand may be another program's by now.
            leases_alone &= due.is_none() && !drift.has_happened(&self.watched);
            if let (true, Some(held), Some(snapshot)) = (leases_alone, now, snapshot.as_ref())
                && self.follow_touched(&held, snapshot)
            {
                continue;
            }
            due = None;
            drift.forget();
            if let (Some(held), Some(snapshot)) = (*held.borrow_and_update(), snapshot.as_ref()) {
                self.run_once(&held, snapshot);
            }
        }
    }

    /// One reconcile with all that is to be told about it.
    fn run_once(&mut self, held: &Held, snapshot: &Snapshot) {
        let before = self.kernel.sent();
        let outcome = self.reconcile(held, snapshot);
        self.position = outcome.is_ok().then(|| snapshot.position());
        let changes = self.kernel.sent() - before;
        if changes > 0 {
            tracing::info!("reconciled: {changes} changes");
        }
        match outcome {
            Ok(()) => {
                if self.failures.clear() {
                    tracing::info!("the kernel agrees with the leases again");
                }
                self.health.set_ready();
                self.repairs = true;
                self.metrics.applied();
            }
            Err(error) => self.failures.set([format!("{error}; trying again")]),
        }
    }

    /// One reconcile, and what there is to be said of it.
    fn reconcile(&mut self, held: &Held, snapshot: &Snapshot) -> Result<(), Error> {
        let mut notices: Vec<_> = snapshot
            .invalid()
            .map(|(name, fault)| {
                let LeasePlace { prefix, store } = &self.leases;
                format!("{prefix}{name} in {store} is ignored: {fault}")
            })
            .collect();
        self.invalid = snapshot.invalid().count();
        self.metrics.leases(snapshot.leases().count(), self.invalid);
        let conf = self.conf.borrow_and_update().clone();
        match self.site.follow(&mut self.kernel, &conf) {
            Ok(true) => {
                self.repairs = false;
                self.own.send_replace(self.site.own());
            }
            Ok(false) => {}
            Err(error) => notices.push(error.to_string()),
        }
        let outcome = self.bring_in_line(held, snapshot, &mut notices);
        self.notices.set(notices);
        outcome
    }

    /// Devices first, then `subnet.env`, then all that leads to other nodes, as flannel does; what an
    /// earlier configuration has left goes last.
    fn bring_in_line(
        &mut self,
        held: &Held,
        snapshot: &Snapshot,
        notices: &mut Vec<String>,
    ) -> Result<(), Error> {
        let places = self.places(notices)?;
        let written = report::write_subnet_file(&self.subnet_file, &self.subnet_env(held))?;
        if written {
            tracing::info!("{} written for {}", self.subnet_file.display(), held.key);
        }
        let own = self.site.own();
        let backend = self.site.backend().clone();
        let peers: Vec<_> = places
            .iter()
            .map(|(family, _)| plan::peers(family, &backend, &own, &held.key, snapshot))
            .collect();
        let places: Vec<_> = places.iter().map(|(_, place)| place).zip(peers).collect();
        let mut outcome = self.tunnels(&places);
        for (place, peers) in places {
            outcome = outcome.and(self.tables(place, held, peers, notices));
        }
        outcome.and_then(|()| self.clean(notices))
    }

    fn subnet_env(&self, held: &Held) -> SubnetEnv {
        let overlays = || self.site.overlays().iter();
        SubnetEnv {
            networks: overlays()
                .map(|(family, it)| (family, it.network))
                .collect(),
            subnets: *held.key.subnets(),
            // Pods have one MTU for both families.
            mtu: overlays().map(|(_, it)| it.mtu).min().unwrap_or_default(),
            ip_masq: self.ip_masq,
        }
    }
}
