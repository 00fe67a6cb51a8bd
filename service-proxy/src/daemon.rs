//! The daemon: follows the source, and lets the kernel follow.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    time::{Duration, Instant},
};

use kernel::{Family, conntrack};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    dataplane::{Dataplane, Failure, Mode},
    flows::Flows,
    model::{Catalogue, ObjectName},
    plan::{HealthCheck, nftables::NodeRules},
    reconcile::Outcome,
    report::{self, Occasion, Progress, check_ports::CheckPorts, http},
    source::{
        Kube, Manifests, News, Source,
        kube::{Access, Unusable},
        manifests::StartError,
    },
    tuning::Tuning,
};

/// How soon after a failure the next attempt is made; each further one waits twice as long, up to the sync
/// period.
const RETRY: Duration = Duration::from_secs(1);

/// What the daemon is to do.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where Services come from.
    pub source: SourceSettings,
    /// The name of this node in the objects.
    pub node: String,
    /// What of the rules is the same for all Services, of IPv4 and IPv6.
    pub rules: [NodeRules; 2],
    /// What Services are turned into.
    pub mode: Mode,
    /// How often everything is compared with the kernel.
    pub sync_period: Duration,
    /// Where health and metrics are served.
    pub bindings: http::Bindings,
    /// What of the machine is set.
    pub tuning: Tuning,
}

/// Where Services come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceSettings {
    /// A directory of manifests.
    Manifests(PathBuf),
    /// The API server, by a kubeconfig file and a URL that takes the place of the file's. Without both, the
    /// pod's service account leads to it.
    Kube {
        /// The kubeconfig file.
        kubeconfig: Option<PathBuf>,
        /// The URL of the API server.
        master: Option<String>,
    },
}

/// Why the daemon can't run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The manifests can't be followed.
    #[error(transparent)]
    Source(#[from] StartError),
    /// There is no way to the API server.
    #[error(transparent)]
    Access(#[from] Unusable),
    /// There is no way into the kernel.
    #[error("{0}; service-proxy needs CAP_NET_ADMIN and a kernel with nf_tables")]
    Kernel(#[from] kernel::Error),
    /// There is no dataplane.
    #[error(
        "{0}; service-proxy needs CAP_NET_ADMIN, a kernel with nf_tables, and for --proxy-mode=iptables the \
             programs of iptables"
    )]
    Dataplane(#[from] Failure),
    /// There are no health and metrics servers.
    #[error(transparent)]
    Http(#[from] http::Error),
    /// Signals can't be waited for.
    #[error("wait for signals: {0}")]
    Signals(#[from] std::io::Error),
}

/// What is known, and when to look again.
#[derive(Debug)]
struct Daemon {
    catalogue: Catalogue,
    mode: Mode,
    dataplane: Box<dyn Dataplane>,
    flows: Flows,
    /// Services that are not in the kernel as they are in the catalogue.
    pending: BTreeSet<ObjectName>,
    progress: Progress,
    check_ports: CheckPorts,
    node: String,
    tuning: Tuning,
    sync_period: Duration,
    /// Until all is in the kernel for the first time.
    starting: bool,
    /// How many attempts have failed in a row.
    failures: u32,
    look_at: Instant,
}

// === impl Daemon ===

impl Daemon {
    /// Takes in what a source tells.
    fn learn(&mut self, news: Vec<News>) {
        for one in news {
            let changes = one.into_changes(&self.catalogue);
            self.progress.changed(&changes);
            for change in changes {
                self.pending.extend(self.catalogue.apply(change));
            }
        }
    }

    /// Lets the kernel follow what has been learnt.
    fn follow(&mut self) {
        let services = std::mem::take(&mut self.pending);
        self.flows.note(&services);
        if self.starting || !services.is_empty() {
            let occasion = Occasion::Change(services.len());
            self.sync(occasion, |dataplane, catalogue| {
                dataplane.update(catalogue, &services)
            });
        }
        self.tell_load_balancers(&services);
    }

    /// What there is on this node of Services that load balancers ask for.
    fn tell_load_balancers(&mut self, services: &BTreeSet<ObjectName>) {
        for name in services {
            let check = self.catalogue.service(name).and_then(|service| {
                let slices = self.catalogue.slices_of(name);
                HealthCheck::of(service, slices, &self.node)
            });
            self.check_ports.set(name, check);
        }
    }

    fn resync(&mut self) {
        self.sync(Occasion::Resync, |dataplane, _| dataplane.resync());
    }

    fn sync(
        &mut self,
        occasion: Occasion,
        work: impl FnOnce(&mut dyn Dataplane, &Catalogue) -> Outcome,
    ) {
        let occasion = if self.starting {
            Occasion::First
        } else {
            occasion
        };
        self.progress.queued();
        let started = Instant::now();
        let outcome = work(&mut *self.dataplane, &self.catalogue);
        let ended = Instant::now();
        report::synced(occasion, &outcome, &self.catalogue, ended - started);
        self.progress.synced(occasion, &outcome.attempts);
        if !outcome.failures.is_empty() {
            self.look_at = ended + retry_after(self.failures, self.sync_period);
            self.failures = self.failures.saturating_add(1);
            return;
        }
        // A change alone puts the next full comparison off only where it made one.
        if self.failures > 0 || !matches!(occasion, Occasion::Change(_)) {
            self.look_at = ended + self.sync_period;
        }
        if self.starting {
            // Not before: the kernel's module for tracked flows comes with the first rules that need it.
            self.tuning.apply();
            self.mode.remove_others();
            self.starting = false;
        }
        self.failures = 0;
        report::forgot(&self.flows.forget_stale(&self.catalogue));
    }
}

/// Runs until a SIGTERM or SIGINT; what stands in the kernel stays there.
///
/// # Errors
/// If it can't start.
pub async fn run(settings: Settings) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    settings.tuning.protect();
    let dataplane = settings.mode.open(&settings.node, &settings.rules)?;
    let progress = Progress::new(&settings.node, settings.sync_period);
    let subject = http::Subject {
        health: progress.health.clone(),
        metrics: progress.metrics.clone(),
        mode: settings.mode.name(),
    };
    let [v4, v6] = &settings.rules;
    let (check_ports, servers) = CheckPorts::new(
        progress.health.clone(),
        [
            (Family::V4, v4.node_ports.clone()),
            (Family::V6, v6.node_ports.clone()),
        ],
    );
    http::start(&settings.bindings, &subject, servers)?;
    let (mut source, all) = open(&settings).await?;
    let mut daemon = Daemon {
        catalogue: Catalogue::default(),
        mode: settings.mode,
        dataplane,
        flows: Flows::new(
            conntrack::Handle::open()?,
            progress.metrics.clone(),
            settings.tuning.reset_tcp,
        ),
        pending: BTreeSet::new(),
        progress,
        check_ports,
        node: settings.node.clone(),
        tuning: settings.tuning,
        sync_period: settings.sync_period,
        starting: true,
        failures: 0,
        look_at: Instant::now(),
    };
    daemon.learn(all);
    if source.is_complete() {
        daemon.follow();
    }
    loop {
        tokio::select! {
            news = source.next() => {
                daemon.learn(news);
                if source.is_complete() {
                    daemon.follow();
                }
            }
            () = tokio::time::sleep_until(daemon.look_at.into()), if source.is_complete() => daemon.resync(),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    tracing::info!("stopped; what it has put into the kernel stays and goes on to work");
    Ok(())
}

/// Opens the source; answers with what it has at once.
async fn open(settings: &Settings) -> Result<(Source, Vec<News>), Error> {
    match &settings.source {
        SourceSettings::Manifests(path) => {
            let (manifests, all) = Manifests::open(path)?;
            let all = all.into_iter().map(News::Change).collect();
            Ok((Source::Manifests(manifests), all))
        }
        SourceSettings::Kube { kubeconfig, master } => {
            let access = Access::new(kubeconfig.clone(), master.clone()).await?;
            tracing::info!(
                "follows API server {} for node {}",
                access.server(),
                settings.node
            );
            let kube = Kube::follow(access, &settings.node);
            Ok((Source::Kube(kube), Vec::new()))
        }
    }
}

/// How long to wait after so many failures in a row before.
fn retry_after(failures: u32, sync_period: Duration) -> Duration {
    RETRY.saturating_mul(1 << failures.min(16)).min(sync_period)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_less_and_less_often() {
        let minute = Duration::from_secs(60);
        let waits: Vec<_> = (0..8)
            .map(|failures| retry_after(failures, minute).as_secs())
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(retry_after(u32::MAX, minute), minute);
    }
}
