//! The daemon: follows the source, and lets the kernel follow.

mod switch;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    time::{Duration, Instant},
};

use kernel::{Family, conntrack, memory};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{
    configuration::{self, Configuration, Detector, Follow, Settings},
    dataplane::{Dataplane, Failure, Mode},
    drift::{CannotWatch, Drift},
    flows::Flows,
    localhost::{Elsewhere, LoopbackPorts},
    model::{Catalogue, ObjectName},
    options::Options,
    plan::{Gaps, HealthCheck, LocalGaps, loopback_ports, nftables::NodePortAddresses},
    reconcile::Outcome,
    report::{self, Events, Happening, Occasion, Progress, check_ports::CheckPorts, http},
    source::{
        Kube, Manifests, News, Source,
        kube::{Access, Unusable},
        manifests::StartError,
    },
    tuning,
};

use self::switch::Deferred;

/// How soon after a failure the next attempt is made; each further one waits twice as long, up to the sync
/// period.
const RETRY: Duration = Duration::from_secs(1);

/// How soon after a look at all that stands in the kernel the next one may follow, whoever goes on to change it.
const PAUSE: Duration = Duration::from_millis(300);

/// What the daemon is to do.
#[derive(Debug)]
pub struct Orders {
    /// The command line, with which a new text of the configuration's file is understood.
    pub options: Options,
    /// Where Services come from.
    pub source: SourceSettings,
    /// The name of this node in the objects.
    pub node: String,
    /// The configuration.
    pub configuration: Configuration,
    /// What of it has an effect.
    pub settings: Settings,
    /// The configuration's file, if there is one.
    pub file: Option<Follow>,
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
    /// The way into the kernel that the mode takes is not there. It names its causes itself.
    #[error("{0}; {needs}", needs = needs(.0))]
    Dataplane(Failure),
    /// What others change in the kernel can't be watched.
    #[error("{0}; service-proxy needs to be told when others change its rules")]
    Drift(#[from] CannotWatch),
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
    dataplane: Box<dyn Dataplane>,
    flows: Flows,
    /// Services that are not in the kernel as they are in the catalogue.
    pending: BTreeSet<ObjectName>,
    progress: Progress,
    check_ports: CheckPorts,
    loopback_ports: LoopbackPorts,
    gaps: LocalGaps,
    events: Events,
    node: String,
    settings: Settings,
    /// The configuration in force, for those who ask.
    configuration: watch::Sender<Configuration>,
    options: Options,
    /// Until what the rules need to know of the node is known.
    waiting: bool,
    /// When the kernel may be changed again.
    free_at: Instant,
    /// Until all is in the kernel for the first time.
    starting: bool,
    /// What others change, while that is watched.
    drift: Option<Drift>,
    /// Whether it is known if that can be watched.
    watching: bool,
    /// Until what other modes have left has been removed: when to do that.
    others_at: Option<Instant>,
    deferred: Option<Deferred>,
    /// How many attempts have failed in a row.
    failures: u32,
    look_at: Instant,
    /// When all that stands in the kernel was compared last.
    looked_at: Instant,
}

// === impl Error ===

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Dataplane(failure)
    }
}

// === impl Daemon ===

impl Daemon {
    /// Knows nothing yet. Health and metrics are served from now on.
    fn new(orders: Orders, events: Events) -> Result<Self, Error> {
        let Orders {
            options,
            node,
            configuration,
            settings,
            ..
        } = orders;
        let progress = Progress::new(&node, settings.sync_period);
        let configuration = effective(configuration, &settings.mode);
        let (configuration, in_force) = watch::channel(configuration);
        let subject = http::Subject {
            configuration: in_force,
            health: progress.health.clone(),
            metrics: progress.metrics.clone(),
        };
        let rules = |family| settings.rules(family);
        let addresses = Family::ALL.map(|family| (family, rules(family).node_ports));
        let (check_ports, servers) =
            CheckPorts::new(progress.health.clone(), addresses.clone(), events.clone());
        let elsewhere = addresses.map(|(family, addresses)| {
            let primary = None;
            (family, Elsewhere { addresses, primary })
        });
        let (loopback_ports, listeners) =
            LoopbackPorts::new(settings.node_ports.loopback.clone(), elsewhere);
        http::start(&settings.bindings, &subject, servers, listeners, &events)?;
        let waiting = settings.detector == Detector::NodeCidr;
        if waiting {
            report::waits(&node);
        }
        Ok(Self {
            catalogue: Catalogue::new(settings.external_ips),
            dataplane: settings.mode.open(&node, &rules)?,
            flows: Flows::new(
                conntrack::Handle::open()?,
                progress.metrics.clone(),
                settings.tuning.reset_tcp,
            ),
            pending: BTreeSet::new(),
            progress,
            check_ports,
            loopback_ports,
            gaps: LocalGaps::default(),
            events,
            node,
            configuration,
            options,
            settings,
            waiting,
            starting: true,
            drift: None,
            watching: false,
            others_at: Some(Instant::now()),
            deferred: None,
            failures: 0,
            free_at: Instant::now(),
            look_at: Instant::now(),
            looked_at: Instant::now(),
        })
    }

    /// Takes in what a source tells.
    fn learn(&mut self, news: Vec<News>) {
        for one in news {
            let changes = one.into_changes(&self.catalogue);
            self.progress.changed(&changes);
            for change in changes {
                self.pending.extend(self.catalogue.apply(change));
            }
        }
        let node = self.catalogue.node(&self.node);
        self.waiting &= node.is_none_or(|node| node.pod_networks.is_empty());
    }

    /// Whether there is something that the kernel has not followed yet.
    fn is_behind(&self) -> bool {
        if self.starting {
            return self.failures == 0;
        }
        !self.pending.is_empty() || !self.dataplane.is_settled(&self.catalogue)
    }

    /// Follows a new text of the configuration's file, or what kept it from being read.
    fn reload(&mut self, read: Result<String, String>) {
        let new = read.and_then(|text| {
            let loaded = self
                .options
                .interpret(Some(text))
                .map_err(|error| error.to_string())?;
            configuration::check_kernel(&loaded.configuration.mode)
                .map_err(|error| error.to_string())?;
            let settings = self.options.settings(&loaded.configuration);
            let (settings, notes) = settings.map_err(|error| error.to_string())?;
            let warnings = [loaded.warnings, notes].concat();
            Ok((loaded.configuration, settings, warnings))
        });
        match new {
            Ok((configuration, settings, warnings)) => {
                report::warnings(&warnings);
                self.put_in_force(configuration, settings);
            }
            Err(wrong) => report::not_reloaded(&wrong),
        }
    }

    /// Puts new settings in the place of the old ones.
    fn adopt(&mut self, settings: Settings) {
        let before = std::mem::replace(&mut self.settings, settings);
        if before.tuning != self.settings.tuning {
            self.settings.tuning.protect();
            if !self.starting {
                self.tune();
            }
        }
        self.loopback_ports
            .set_families(&self.settings.node_ports.loopback);
        for family in Family::ALL {
            self.dataplane
                .set_rules(family, self.settings.rules(family));
        }
        self.settle();
        self.free_at = Instant::now();
        if !self.starting {
            self.look_at = Instant::now();
        }
    }

    /// Lets the kernel follow what has been learnt.
    fn follow(&mut self) {
        self.free_at = Instant::now() + self.settings.min_sync_period;
        let services = std::mem::take(&mut self.pending);
        self.flows.note(&services);
        let settled = self.dataplane.is_settled(&self.catalogue);
        if self.starting || !services.is_empty() || !settled {
            let occasion = Occasion::Change(services.len());
            self.sync(occasion, |dataplane, catalogue| {
                dataplane.update(catalogue, &services)
            });
        }
        if !settled {
            self.settle();
        }
        self.serve(&services);
        self.remove_others();
    }

    /// Sets what of the machine is to be set.
    fn tune(&self) {
        if let Some(error) = self.settings.tuning.apply() {
            self.events.tell(Happening::ReadOnly(error.to_string()));
        }
    }

    /// Follows the addresses of the node with what is served by this program itself.
    fn settle(&mut self) {
        let around = self.dataplane.surroundings();
        for family in Family::ALL {
            let options = self.settings.rules(family).node_ports;
            let addresses = options.settled(family, around);
            if (&options, &addresses) == (&NodePortAddresses::Primary, &NodePortAddresses::All) {
                report::no_primary_address(&self.node, family);
            }
            let mut own = around.addresses.iter();
            let elsewhere = Elsewhere {
                primary: own.find(|address| Family::of(address) == family).copied(),
                addresses: addresses.clone(),
            };
            self.loopback_ports.set_elsewhere(family, elsewhere);
            self.check_ports.set_addresses(family, addresses);
        }
    }

    /// What of Services is served, or counted, by this program itself.
    fn serve(&mut self, services: &BTreeSet<ObjectName>) {
        for name in services {
            let service = self.catalogue.service(name);
            let slices = || self.catalogue.slices_of(name);
            let check = service.and_then(|it| HealthCheck::of(it, slices(), &self.node));
            self.check_ports.set(name, check);
            self.loopback_ports
                .set(name, service.map(loopback_ports).unwrap_or_default());
            let gaps = Family::ALL.map(|family| {
                let gaps = service.map(|it| Gaps::of(it, slices(), family, &self.node));
                gaps.unwrap_or_default()
            });
            self.gaps.set(name, gaps);
        }
        for (family, gaps) in Family::ALL.into_iter().zip(self.gaps.total()) {
            self.progress.metrics.set_no_local_endpoints(family, gaps);
        }
    }

    /// Somebody else has changed a table of ours.
    fn disturbed(&mut self) {
        self.look_at = self.look_at.min(self.looked_at + PAUSE);
    }

    fn resync(&mut self) {
        self.sync(Occasion::Resync, |dataplane, _| dataplane.resync());
        self.looked_at = Instant::now();
        self.remove_others();
        self.retry_deferred();
    }

    /// Removes what waits for the end of connections no longer.
    fn look(&mut self) {
        self.sync(Occasion::Ended, |dataplane, _| dataplane.look());
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
        // Who reads the log and asks then is to be told the same.
        self.progress.synced(occasion, &outcome);
        report::synced(occasion, &outcome, &self.catalogue, ended - started);
        if !outcome.failures.is_empty() {
            self.look_at = ended + retry_after(self.failures, self.settings.sync_period);
            self.failures = self.failures.saturating_add(1);
            return;
        }
        // A change alone puts the next full comparison off only where it made one.
        let partial = matches!(occasion, Occasion::Change(_) | Occasion::Ended);
        if self.failures > 0 || !partial {
            self.look_at = ended + self.settings.sync_period;
        }
        if self.starting {
            // Not before: the kernel's module for tracked flows comes with the first rules that need it.
            self.tune();
            self.starting = false;
        }
        self.failures = 0;
        report::forgot(&self.flows.forget_stale(&self.catalogue));
        if !partial {
            // The whole table, as it is and as it should be, needed more than all that stays.
            memory::give_back();
        }
    }
}

/// Runs until a SIGTERM or SIGINT; what stands in the kernel stays there.
///
/// # Errors
/// If it can't start.
pub async fn run(mut orders: Orders) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    orders.settings.tuning.protect();
    tuning::use_all_descriptors();
    let (mut source, all, events) = open(&orders).await?;
    events.tell(Happening::Started);
    let mut file = orders.file.take();
    let mut daemon = Daemon::new(orders, events)?;
    daemon.learn(all);
    loop {
        // Not before: where somebody listens, the kernel announces every element of the first sync by itself.
        if !daemon.watching && !daemon.starting {
            daemon.drift = daemon.dataplane.watch()?;
            daemon.watching = true;
            // What has happened since the first sync.
            daemon.look_at = Instant::now();
        }
        let known = source.is_complete() && !daemon.waiting;
        let behind = known && daemon.is_behind();
        tokio::select! {
            biased;
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            text = changed(&mut file) => daemon.reload(text),
            () = sleep_until(daemon.free_at), if behind => daemon.follow(),
            () = disturbed(&mut daemon.drift) => daemon.disturbed(),
            () = sleep_until(daemon.look_at), if known => daemon.resync(),
            () = ended(daemon.dataplane.look_at()), if known => daemon.look(),
            news = source.next() => daemon.learn(news),
        }
    }
    tracing::info!("stopped; what it has put into the kernel stays and goes on to work");
    Ok(())
}

/// What to do where a mode can't be had at the start.
fn needs(failure: &Failure) -> &'static str {
    match failure {
        Failure::Ipvs(_) => failure.advice(),
        Failure::Kernel(_) | Failure::Iptables(_) => {
            "service-proxy needs CAP_NET_ADMIN, and for iptables mode the programs of iptables"
        }
    }
}

/// Waits until the configuration's file has changed, for ever if there is none.
async fn changed(file: &mut Option<Follow>) -> Result<String, String> {
    match file {
        Some(file) => file.next().await,
        None => std::future::pending().await,
    }
}

/// Waits until somebody else has changed what is ours, for ever where that is not announced.
async fn disturbed(drift: &mut Option<Drift>) {
    match drift {
        Some(drift) => drift.next().await,
        None => std::future::pending().await,
    }
}

/// Waits until it is time to look for connections that have ended, for ever if nothing waits for any.
async fn ended(look_at: Option<Instant>) {
    match look_at {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(time: Instant) {
    tokio::time::sleep_until(time.into()).await;
}

/// Opens the source; answers with what it has at once, and where Events are told.
async fn open(orders: &Orders) -> Result<(Source, Vec<News>, Events), Error> {
    match &orders.source {
        SourceSettings::Manifests(path) => {
            let (manifests, all) = Manifests::open(path)?;
            let all = all.into_iter().map(News::Change).collect();
            Ok((Source::Manifests(manifests), all, Events::default()))
        }
        SourceSettings::Kube { kubeconfig, master } => {
            let access = Access::new(kubeconfig.clone(), master.clone()).await?;
            tracing::info!(
                "follows API server {} for node {}",
                access.server(),
                orders.node
            );
            let events = Events::start(access.client().clone(), &orders.node);
            let kube = Kube::follow(access, &orders.node);
            Ok((Source::Kube(kube), Vec::new(), events))
        }
    }
}

/// A configuration with the mode that it comes to.
fn effective(mut configuration: Configuration, mode: &Mode) -> Configuration {
    mode.name().clone_into(&mut configuration.mode);
    configuration
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
