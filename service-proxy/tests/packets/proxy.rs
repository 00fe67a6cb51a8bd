//! The program itself, run on the node.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    eventually, foreign,
    network::{CLUSTER_CIDR, Network, Place},
};

/// The variable that says what stands beside virtual servers in IPVS mode, as the option does.
const IPVS_FILTER: &str = "TWEED_IPVS_FILTER";
/// The variable that names the mode of all proxies, if not nftables; see [`crate::modes`].
pub const MODE: &str = "TWEED_PROXY_MODE";

const OURS: &str = env!("CARGO_BIN_EXE_service-proxy");

/// What Services are turned into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Nftables,
    /// iptables, in the tables of nf_tables.
    Nft,
    /// iptables, in the older tables.
    Legacy,
    /// The virtual servers of the kernel, which not every kernel has.
    Ipvs,
}

/// A running proxy that ends when it is dropped.
pub struct Proxy {
    child: Child,
    log: PathBuf,
}

// === impl Mode ===

impl Mode {
    /// That of the run.
    pub fn of_run() -> Self {
        match env::var(MODE).as_deref() {
            Err(_) => Self::Nftables,
            Ok("iptables-nft") => Self::Nft,
            Ok("iptables-legacy") => Self::Legacy,
            Ok("ipvs") => Self::Ipvs,
            Ok(other) => panic!("{MODE}={other}"),
        }
    }

    /// The backend of iptables as its option and programs name it.
    pub fn backend(self) -> Option<&'static str> {
        match self {
            Self::Nftables | Self::Ipvs => None,
            Self::Nft => Some("nft"),
            Self::Legacy => Some("legacy"),
        }
    }

    /// What the configuration calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::Nft | Self::Legacy => "iptables",
            Self::Ipvs => "ipvs",
        }
    }

    fn options(self) -> Vec<String> {
        let mode = format!("--proxy-mode={}", self.name());
        let backend = self.backend().map(|it| format!("--iptables-backend={it}"));
        let filter = env::var(IPVS_FILTER).ok().filter(|_| self == Self::Ipvs);
        let filter = filter.map(|it| format!("--ipvs-filter={it}"));
        [mode].into_iter().chain(backend).chain(filter).collect()
    }
}

// === impl Proxy ===

impl Proxy {
    /// Starts it on the node and waits until it has made its first sync.
    pub fn start(network: &Network) -> Self {
        Self::start_with(network, &["--cluster-cidr", CLUSTER_CIDR])
    }

    /// The same, with options of its own.
    pub fn start_with(network: &Network, options: &[&str]) -> Self {
        Self::start_in(Mode::of_run(), network, options)
    }

    /// Ours, whatever proxy the run is of.
    pub fn start_ours(mode: Mode, network: &Network) -> Self {
        let options = ["--cluster-cidr", CLUSTER_CIDR];
        let proxy = Self::spawn(ours(mode, network, &options), network);
        eventually("our first sync", || proxy.log().contains("first sync"));
        proxy
    }

    /// The same, in a mode of its own.
    pub fn start_in(mode: Mode, network: &Network, options: &[&str]) -> Self {
        Self::start_command(daemon(mode, network, options), network)
    }

    /// The same, where it finds the programs of a directory alone.
    pub fn start_beside(programs: &Path, mode: Mode, network: &Network, options: &[&str]) -> Self {
        let mut command = daemon(mode, network, options);
        command.env("PATH", programs);
        Self::start_command(command, network)
    }

    fn start_command(command: Command, network: &Network) -> Self {
        let proxy = Self::spawn(command, network);
        match network.server() {
            Some(_) => foreign::wait_for_sync(network),
            None => eventually("the first sync", || proxy.log().contains("first sync")),
        }
        proxy
    }

    fn spawn(mut command: Command, network: &Network) -> Self {
        let log = network.manifests().join("proxy.log");
        command.stderr(File::create(&log).unwrap());
        let child = network
            .namespace(Place::Node)
            .run(|| command.spawn())
            .unwrap()
            .unwrap();
        Self { child, log }
    }

    /// Runs it with options that it can't run with; answers with what it says.
    pub fn fail_with(network: &Network, options: &[&str]) -> String {
        Self::fail_in(Mode::of_run(), network, options)
    }

    /// The same, in a mode of its own.
    pub fn fail_in(mode: Mode, network: &Network, options: &[&str]) -> String {
        let mut command = daemon(mode, network, options);
        let output = network
            .namespace(Place::Node)
            .run(|| command.output())
            .unwrap()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    }

    /// Runs one of the commands that change nothing, on the node and by its manifests unless others are named.
    pub fn inspect(network: &Network, arguments: &[&str]) -> Output {
        Self::inspect_in(Mode::of_run(), network, arguments)
    }

    /// The same in a mode.
    pub fn inspect_in(mode: Mode, network: &Network, arguments: &[&str]) -> Output {
        let mut command = program();
        command
            .args(arguments)
            .args(mode.options())
            .args(["--hostname-override", "node"]);
        if !arguments.contains(&"--manifests") {
            command.arg("--manifests").arg(network.manifests());
        }
        network
            .namespace(Place::Node)
            .run(|| command.output())
            .unwrap()
            .unwrap()
    }

    /// Runs it to remove everything.
    pub fn clean_up(network: &Network) -> ExitStatus {
        let mut command = program();
        command.arg("--cleanup").stderr(Stdio::null());
        network
            .namespace(Place::Node)
            .run(|| command.status())
            .unwrap()
            .unwrap()
    }

    /// The same where it can't write to `/proc/sys`, as in a container that is not privileged; answers with what it
    /// tells.
    pub fn clean_up_in_container(network: &Network) -> String {
        let script = "mount --bind /proc/sys /proc/sys
            mount -o remount,bind,ro /proc/sys
            exec \"$0\" --cleanup";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation=private", "sh", "-ec", script]);
        command.arg(program().get_program());
        let node = network.namespace(Place::Node);
        let output = node.run(|| command.output()).unwrap().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// What it has told.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// How soon the kernel kills it when memory runs out.
    pub fn oom_score_adj(&self) -> String {
        let path = format!("/proc/{}/oom_score_adj", self.child.id());
        fs::read_to_string(path).unwrap().trim().to_owned()
    }

    /// Ends it without a warning.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end, and sees it end well.
    pub fn terminate(&mut self) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        let ended = self.child.wait().unwrap();
        // Others end by the signal.
        assert!(
            ended.success() || foreign::program().is_some(),
            "{}",
            self.log()
        );
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Without a word if even that can't be read: a panic in here would end all tests.
            eprintln!("{}", fs::read_to_string(&self.log).unwrap_or_default());
        }
        for ended in [self.child.kill(), self.child.wait().map(drop)] {
            if let Err(error) = ended {
                eprintln!("end service-proxy: {error}");
            }
        }
    }
}

fn daemon(mode: Mode, network: &Network, options: &[&str]) -> Command {
    if let Some(server) = network.server() {
        return foreign::daemon(server, mode, network, options);
    }
    ours(mode, network, options)
}

fn ours(mode: Mode, network: &Network, options: &[&str]) -> Command {
    let mut command = Command::new(OURS);
    command
        .arg("--manifests")
        .arg(network.manifests())
        .args(["--hostname-override", "node"])
        .args(mode.options())
        .args(options)
        .stdin(Stdio::null());
    if !options.contains(&"--sync-period") {
        command.args(["--sync-period", "500ms"]);
    }
    command
}

fn program() -> Command {
    Command::new(foreign::program().unwrap_or(OURS.into()))
}
