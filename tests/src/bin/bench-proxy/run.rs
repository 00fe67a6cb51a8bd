//! One proxy on one cluster: load, change, unload.

use std::{
    env,
    fs::{self, File},
    net::SocketAddr,
    os::unix::fs::symlink,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use lab::apiserver::{ApiServer, Options};

use crate::{
    objects::{self, NAMESPACE, PORT, Size, TARGET},
    site::{Pod, Site, ask},
};

/// The name of the node in the objects.
const NODE: &str = "node";
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// kube-proxy makes rules once a second at the most; what is waited for is not to count.
const PAUSE: Duration = Duration::from_millis(1100);
/// How often the last Service's endpoint is changed.
pub const CHANGES: usize = 11;
/// How many connections the latencies are of.
const CONNECTIONS: usize = 1000;

/// What Services are turned into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// nftables.
    Nftables,
    /// iptables, in the tables of nf_tables.
    IptablesNft,
    /// iptables, in the older tables.
    IptablesLegacy,
    /// IPVS.
    Ipvs,
}

/// A proxy.
#[derive(Clone, Debug)]
pub struct Contender<'a> {
    /// Its name in the table.
    pub name: &'static str,
    /// The binary.
    pub program: &'a Path,
    /// What it turns Services into.
    pub mode: Mode,
    /// It knows the options that kube-proxy has not.
    pub ours: bool,
    /// Some of those.
    pub options: &'a [String],
}

/// What was measured.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Process start until the last Service answers (P2).
    pub start: Duration,
    /// Resident bytes after the start (P3).
    pub memory: u64,
    /// An endpoint's change until a client reaches the new one (P1), in order of length.
    pub changes: Vec<Duration>,
    /// Processor time of the start, and of one of those changes, that of programs which are run included.
    pub processor: [Duration; 2],
    /// A connection to the last Service, and one to the pod itself (P8): in order of length.
    pub connects: [Vec<Duration>; 2],
    /// The time for 1,000 changes, and resident bytes after them.
    pub thousand: (Duration, u64),
    /// The same for 10,000 in all.
    pub ten_thousand: (Duration, u64),
    /// The most bytes that were resident at any time.
    pub most_memory: u64,
    /// Until nothing is served any more.
    pub unload: Duration,
}

/// What has been measured so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The start.
    Start,
    /// Changes of the last Service.
    Changes,
    /// Connections.
    Connections,
    /// A tenth of the changes of other Services.
    FewOthers,
    /// All of them.
    Others,
    /// The end of everything.
    Unload,
}

/// A proxy that runs, on a cluster.
pub struct Run {
    size: Size,
    site: Site,
    server: ApiServer,
    proxy: Running,
    /// Its files.
    _directory: tempfile::TempDir,
}

/// A process that ends when it is dropped.
struct Running(Child);

// === impl Run ===

/// Measures a proxy on a cluster of a size, and tells after each step: whoever is too slow for the rest leaves what it
/// has.
pub fn measure(
    contender: &Contender<'_>,
    size: Size,
    number: usize,
    changes: u32,
    tell: impl Fn(Step, &Figures),
) -> Result<Figures> {
    let (run, start) = Run::start(contender, size, number)?;
    let mut figures = Figures {
        start,
        ..Figures::default()
    };
    thread::sleep(PAUSE * 3);
    figures.memory = run.proxy.memory("VmRSS:")?;
    let started = run.proxy.processor()?;
    tell(Step::Start, &figures);
    figures.changes = run.change_the_last()?;
    let times = u32::try_from(figures.changes.len())?;
    figures.processor = [started, (run.proxy.processor()? - started) / times];
    tell(Step::Changes, &figures);
    figures.connects = run.connect()?;
    tell(Step::Connections, &figures);
    let mut pod = Pod::First;
    let few = changes / 10;
    figures.thousand = run.change_others(0..few, &mut pod)?;
    tell(Step::FewOthers, &figures);
    figures.ten_thousand = run.change_others(few..changes, &mut pod)?;
    figures.most_memory = run.proxy.memory("VmHWM:")?;
    tell(Step::Others, &figures);
    figures.unload = run.unload()?;
    tell(Step::Unload, &figures);
    Ok(figures)
}

impl Run {
    /// Starts a proxy on a cluster of a size, and waits until all is served; how long that took.
    pub fn start(contender: &Contender<'_>, size: Size, number: usize) -> Result<(Self, Duration)> {
        let site = Site::create(number)?;
        let listener = site
            .node
            .within(|| std::net::TcpListener::bind(("127.0.0.1", 0)))??;
        let server = ApiServer::start_on(listener, Options::default())?;
        fill(&server, size)?;
        let directory = tempfile::Builder::new().prefix("tweed-bench-").tempdir()?;
        let started = Instant::now();
        let proxy = Running::start(contender, &site, &server, directory.path())?;
        let run = Self {
            size,
            site,
            server,
            proxy,
            _directory: directory,
        };
        for probe in size.probes() {
            run.wait_for(probe, Pod::First, started)?;
        }
        Ok((run, started.elapsed()))
    }

    /// Ends the proxy; its rules stay.
    pub fn end_proxy(&mut self) -> Result<()> {
        self.proxy.0.kill()?;
        self.proxy.0.wait()?;
        Ok(())
    }

    /// Does something on the node.
    pub fn on_node<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        self.site.node.within(work)
    }

    /// Waits until a Service is answered by a pod; how long that took.
    pub fn wait_for(&self, service: u32, pod: Pod, since: Instant) -> Result<Duration> {
        let to = SocketAddr::new(objects::cluster_ip(service), PORT);
        self.site.client.within(|| {
            while since.elapsed() < PATIENCE {
                if ask(to).is_ok_and(|answer| answer == pod) {
                    return Ok(since.elapsed());
                }
                thread::sleep(pause(since.elapsed()));
            }
            bail!("waited {} s for {to} by {pod:?}", PATIENCE.as_secs());
        })?
    }

    fn lead(&self, service: u32, pod: Pod) -> Result<Instant> {
        let slice = objects::slice(service, 0, vec![pod.address()]);
        let before = Instant::now();
        self.server.apply(slice)?;
        Ok(before)
    }

    /// Changes the only endpoint of the last Service to and fro.
    fn change_the_last(&self) -> Result<Vec<Duration>> {
        let mut pod = Pod::First;
        let mut took = Vec::new();
        for _ in 0..CHANGES + 1 {
            thread::sleep(PAUSE);
            pod = pod.other();
            let since = self.lead(self.size.last(), pod)?;
            took.push(self.wait_for(self.size.last(), pod, since)?);
        }
        took.sort_unstable();
        Ok(took)
    }

    /// Connects to the last Service and to its pod by turns.
    fn connect(&self) -> Result<[Vec<Duration>; 2]> {
        let service = SocketAddr::new(objects::cluster_ip(self.size.last()), PORT);
        let pod = SocketAddr::new(Pod::First.address(), TARGET);
        let mut took = self.site.client.within(|| -> Result<_> {
            let mut took = [Vec::new(), Vec::new()];
            for _ in 0..CONNECTIONS {
                for (to, took) in [service, pod].into_iter().zip(&mut took) {
                    let before = Instant::now();
                    std::net::TcpStream::connect(to)?;
                    took.push(before.elapsed());
                }
            }
            Ok(took)
        })??;
        for took in &mut took {
            took.sort_unstable();
        }
        Ok(took)
    }

    /// Changes endpoints of Services that nobody asks for, then the last one's, and waits for that.
    fn change_others(
        &self,
        rounds: std::ops::Range<u32>,
        pod: &mut Pod,
    ) -> Result<(Duration, u64)> {
        let probes = self.size.probes();
        let before = Instant::now();
        for round in rounds {
            // All Services get their turn, in an order that is none.
            let service = (round * 7919) % self.size.services;
            if probes.contains(&service) {
                continue;
            }
            let slices = objects::slices(service, self.size.endpoints, round + 1);
            if let Some(first) = slices.into_iter().next() {
                self.server.apply(first)?;
            }
        }
        *pod = pod.other();
        self.lead(self.size.last(), *pod)?;
        let took = self.wait_for(self.size.last(), *pod, before)?;
        thread::sleep(PAUSE);
        Ok((took, self.proxy.memory("VmRSS:")?))
    }

    /// Deletes everything, the last Service last.
    fn unload(&self) -> Result<Duration> {
        let before = Instant::now();
        for service in 0..self.size.services {
            let name = objects::name(service);
            self.server.delete("v1", "Service", NAMESPACE, &name)?;
            let endpoints = if self.size.probes().contains(&service) {
                1
            } else {
                self.size.endpoints
            };
            for slice in objects::slice_names(service, endpoints) {
                self.server
                    .delete("discovery.k8s.io/v1", "EndpointSlice", NAMESPACE, &slice)?;
            }
        }
        let to = SocketAddr::new(objects::cluster_ip(self.size.last()), PORT);
        self.site.client.within(|| {
            while ask(to).is_ok() {
                if before.elapsed() > PATIENCE {
                    bail!("waited {} s for {to} to be gone", PATIENCE.as_secs());
                }
            }
            Ok(before.elapsed())
        })?
    }
}

// === impl Mode ===

impl Mode {
    /// The kind of iptables' tables as its programs are named.
    pub fn backend(self) -> Option<&'static str> {
        match self {
            Self::Nftables | Self::Ipvs => None,
            Self::IptablesNft => Some("nft"),
            Self::IptablesLegacy => Some("legacy"),
        }
    }

    /// Lets a proxy work in this mode. Where the programs of iptables are looked for decides which tables they
    /// write.
    fn apply(self, command: &mut Command, directory: &Path, ours: bool) -> Result<()> {
        let Some(backend) = self.backend() else {
            let name = if self == Self::Ipvs {
                "ipvs"
            } else {
                "nftables"
            };
            command.arg(format!("--proxy-mode={name}"));
            // Behind a gate until 1.31.
            command
                .args((self == Self::Nftables).then_some("--feature-gates=NFTablesProxyMode=true"));
            return Ok(());
        };
        let programs = directory.join("programs");
        fs::create_dir(&programs)?;
        let multi = Path::new("/usr/sbin").join(format!("xtables-{backend}-multi"));
        for family in ["iptables", "ip6tables"] {
            for name in ["", "-save", "-restore"] {
                symlink(&multi, programs.join(format!("{family}{name}")))?;
            }
        }
        let path = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths([programs].into_iter().chain(env::split_paths(&path)))?;
        command.env("PATH", path).arg("--proxy-mode=iptables");
        if ours {
            command.arg(format!("--iptables-backend={backend}"));
        }
        Ok(())
    }
}

// === impl Running ===

impl Running {
    fn start(
        contender: &Contender<'_>,
        site: &Site,
        server: &ApiServer,
        directory: &Path,
    ) -> Result<Self> {
        let kubeconfig = directory.join("kubeconfig");
        server.kubeconfig(&kubeconfig)?;
        let log = File::create(directory.join("log"))?;
        let mut command = Command::new(contender.program);
        command
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .args(["--hostname-override", NODE])
            .args(["--cluster-cidr", "10.0.0.0/8"])
            // Not to be set in a network namespace of one's own.
            .args(["--conntrack-max-per-core=0", "--conntrack-min=0"])
            // The stand-in speaks nothing else.
            .arg("--kube-api-content-type=application/json")
            .args(contender.options)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        contender
            .mode
            .apply(&mut command, directory, contender.ours)?;
        site.node.spawn(&mut command).map(Self)
    }

    /// The processor time that it has used, and programs that it has run: fields 14 to 17 of proc_pid_stat(5).
    fn processor(&self) -> Result<Duration> {
        /// `USER_HZ`.
        const TICK: Duration = Duration::from_millis(10);
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        let (_, fields) = stat.rsplit_once(')').context("no name in it")?;
        let used = fields.split_whitespace().skip(11).take(4);
        let ticks = used.map(str::parse::<u32>).sum::<Result<u32, _>>()?;
        Ok(TICK * ticks)
    }

    /// A line of `/proc/PID/status`, in bytes.
    fn memory(&self, line: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))
            .context("the proxy has ended")?;
        let found = status.lines().find_map(|it| it.strip_prefix(line));
        let number = found.and_then(|it| it.trim().strip_suffix(" kB"));
        let kilobytes: u64 = number.context("no such line")?.parse()?;
        Ok(kilobytes * 1024)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for ended in [self.0.kill(), self.0.wait().map(drop)] {
            if let Err(error) = ended {
                eprintln!("end the proxy: {error}");
            }
        }
    }
}

/// How long to wait until the next question after so long a wait: whoever asks all the time takes the processor from
/// the proxy, and a hundredth is precise enough.
fn pause(waited: Duration) -> Duration {
    (waited / 100).clamp(Duration::from_micros(50), Duration::from_millis(100))
}

/// Gives the server everything.
fn fill(server: &ApiServer, size: Size) -> Result<()> {
    server.apply(objects::node(NODE, Site::address()))?;
    let probes = size.probes();
    for number in 0..size.services {
        server.apply(objects::service(number))?;
        if probes.contains(&number) {
            let answers = vec![Pod::First.address()];
            server.apply(objects::slice(number, 0, answers))?;
            continue;
        }
        for slice in objects::slices(number, size.endpoints, 0) {
            server.apply(slice)?;
        }
    }
    Ok(())
}
