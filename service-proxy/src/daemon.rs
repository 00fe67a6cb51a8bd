//! The daemon: follows the source, and lets the kernel follow.

mod own;
mod run;
mod switch;
mod sync;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    time::{Duration, Instant},
};

use kernel::{Family, conntrack};
use tokio::sync::watch;

use crate::{
    configuration::{self, Configuration, Detector, Follow, Settings},
    dataplane::{Dataplane, Failure, Mode},
    drift::{CannotWatch, Drift},
    flows::Flows,
    localhost::{Elsewhere, LoopbackPorts},
    model::{Catalogue, ObjectName},
    options::Options,
    plan::LocalGaps,
    report::{self, Events, Occasion, Progress, check_ports::CheckPorts, http},
    source::{News, kube::Unusable, manifests::StartError},
};

pub use self::run::run;

use self::switch::Deferred;

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
        let (check_ports, loopback_ports) = serve(&settings, &subject, &events)?;
        let rules = |family| settings.rules(family);
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
}

/// Serves health and metrics, and what load balancers ask for and connections to loopback addresses as soon as there
/// are Services.
fn serve(
    settings: &Settings,
    subject: &http::Subject,
    events: &Events,
) -> Result<(CheckPorts, LoopbackPorts), Error> {
    let addresses = Family::ALL.map(|family| (family, settings.rules(family).node_ports));
    let (check_ports, servers) =
        CheckPorts::new(subject.health.clone(), addresses.clone(), events.clone());
    let elsewhere = addresses.map(|(family, addresses)| {
        let primary = None;
        (family, Elsewhere { addresses, primary })
    });
    let (loopback_ports, listeners) =
        LoopbackPorts::new(settings.node_ports.loopback.clone(), elsewhere);
    http::start(&settings.bindings, subject, servers, listeners, events)?;
    Ok((check_ports, loopback_ports))
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

/// A configuration with the mode that it comes to.
fn effective(mut configuration: Configuration, mode: &Mode) -> Configuration {
    mode.name().clone_into(&mut configuration.mode);
    configuration
}
