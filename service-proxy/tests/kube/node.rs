//! A node: one network namespace with the API server, the proxy, endpoints and a client.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::symlink,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use ipnetwork::IpNetwork;
use kernel::{
    netns::Namespace,
    route::{Address, Change, Handle, IfIndex, LinkSettings, NextHop, Protocol, Route},
};
use lab::apiserver::Server;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The name of the node.
pub const NODE: &str = "node1";
/// The namespace of all objects.
pub const NAMESPACE: &str = "lab-proxy";

const CONFIGURATION: &str = "config.conf";

/// Only decides when a test that fails gives up.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a client waits that wants every answer, and one that asks again and again.
const LONG: Duration = Duration::from_secs(5);
const SHORT: Duration = Duration::from_millis(200);
const ENDPOINT_PORT: u16 = 8080;
/// How many endpoints answer, by their numbers from 1.
const ENDPOINTS: u8 = 4;

/// A running proxy that ends when it is dropped.
pub struct Proxy {
    child: Child,
    directory: TempDir,
}

/// A client that never stops asking.
pub struct Traffic {
    ended: Arc<AtomicBool>,
    client: Option<JoinHandle<Vec<String>>>,
}

struct Named(String);

// === impl Proxy ===

impl Proxy {
    /// Starts it, with the API server as its source, and waits for its first sync.
    pub fn start(server: &Server, options: &[&str]) -> Self {
        let proxy = Self::start_only(server, options);
        proxy.wait_for("first sync");
        proxy
    }

    /// Starts it.
    pub fn start_only(server: &Server, options: &[&str]) -> Self {
        Self::spawn(server, |command, directory| {
            let kubeconfig = directory.join("kubeconfig");
            command.arg("--kubeconfig").arg(kubeconfig).args(options);
        })
    }

    /// Starts it with nobody who hears what it tells.
    pub fn start_unheard(server: &Server) -> Self {
        Self::spawn(server, |command, _| {
            let (_, closed) = io::pipe().unwrap();
            command.args(["--master", &server.url()]).stderr(closed);
        })
    }

    /// Starts it with lines of a configuration file.
    pub fn start_configured(server: &Server, lines: &str) -> Self {
        Self::spawn(server, |command, directory| {
            let path = directory.join(CONFIGURATION);
            fs::write(&path, configuration(directory, lines)).unwrap();
            command.arg("--config").arg(path);
        })
    }

    fn spawn(server: &Server, arguments: impl FnOnce(&mut Command, &Path)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        server
            .kubeconfig(&directory.path().join("kubeconfig"))
            .unwrap();
        let mut command = Command::new(program());
        command
            .args(["--hostname-override", NODE])
            .stdin(Stdio::null())
            .stderr(File::create(directory.path().join("log")).unwrap());
        arguments(&mut command, directory.path());
        let child = command.spawn().unwrap();
        Self { child, directory }
    }

    /// Replaces its configuration file.
    pub fn configure(&self, lines: &str) {
        let path = self.directory.path().join(CONFIGURATION);
        let new = path.with_extension("new");
        fs::write(&new, configuration(self.directory.path(), lines)).unwrap();
        fs::rename(new, path).unwrap();
    }

    /// Replaces its configuration file as the kubelet replaces a ConfigMap's: all at once, by a link.
    pub fn configure_by_link(&self, name: &str, lines: &str) {
        let directory = self.directory.path();
        fs::create_dir(directory.join(name)).unwrap();
        let file = directory.join(name).join(CONFIGURATION);
        fs::write(file, configuration(directory, lines)).unwrap();
        for (link, target) in [("..data", name), (CONFIGURATION, "..data/config.conf")] {
            let new = directory.join("new-link");
            symlink(target, &new).unwrap();
            fs::rename(new, directory.join(link)).unwrap();
        }
    }

    /// What it has told.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has told something.
    pub fn wait_for(&self, words: &str) {
        eventually(
            || format!("{words:?} in the log:\n{}", self.log()),
            || self.log().contains(words),
        );
    }

    /// Its warnings and errors, but those of what it may not set here.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.log();
        let lines = log.lines();
        let bad = lines.filter(|line| line.contains("WARN") || line.contains("ERROR"));
        bad.filter(|line| !line.contains("oom_score_adj") && !line.contains("sysctl -w"))
            .map(ToOwned::to_owned)
            .collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        for ended in [self.child.kill(), self.child.wait().map(drop)] {
            if let Err(error) = ended {
                eprintln!("end service-proxy: {error}");
            }
        }
    }
}

// === impl Traffic ===

impl Traffic {
    /// Begins to ask a Service, one connection after the other.
    pub fn start(number: u8) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        let client = thread::spawn(move || {
            let mut failures = Vec::new();
            while !end.load(Ordering::SeqCst) {
                if let Err(error) = ask(number, LONG) {
                    failures.push(error.to_string());
                }
                thread::sleep(Duration::from_millis(1));
            }
            failures
        });
        Self {
            ended,
            client: Some(client),
        }
    }

    /// Ends it; no question may have been without an answer.
    pub fn assert_uninterrupted(mut self) {
        assert_eq!(self.end(), [""; 0]);
    }

    fn end(&mut self) -> Vec<String> {
        self.ended.store(true, Ordering::SeqCst);
        self.client
            .take()
            .map_or(Vec::new(), |client| client.join().unwrap())
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.end();
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        if let Err(error) = Namespace::delete_named(&self.0) {
            eprintln!("{error}");
        }
    }
}

/// Runs a test inside a namespace of its own, in which endpoints answer.
pub fn on_node(test: impl FnOnce() + Send) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = Named(format!("spk{}-{number}", std::process::id()));
    let namespace = Namespace::create_named(&name.0).unwrap();
    namespace
        .run(|| {
            configure();
            for number in 1..=ENDPOINTS {
                serve(number);
            }
            test();
        })
        .unwrap();
}

/// Waits until something holds.
pub fn eventually<S: AsRef<str>>(what: impl Fn() -> S, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(
            Instant::now() < deadline,
            "waited in vain for {}",
            what().as_ref()
        );
        thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until a Service is answered by all of these endpoints and no other.
pub fn eventually_served_by(service: u8, endpoints: &[u8]) {
    let mut seen = Vec::new();
    eventually(
        || format!("Service {service} to be served by {endpoints:?}"),
        || {
            seen = (0..60).filter_map(|_| ask(service, SHORT).ok()).collect();
            seen.sort_unstable();
            seen.dedup();
            seen == endpoints
        },
    );
}

/// Waits until a Service is served by nobody.
pub fn eventually_unserved(service: u8) {
    eventually(
        || format!("Service {service} to be served by nobody"),
        || ask(service, SHORT).is_err(),
    );
}

/// Waits until connections to an address are neither answered nor refused.
pub fn eventually_silent(address: [u8; 4]) {
    let to = SocketAddr::from((address, 80));
    eventually(
        || format!("silence at {to}"),
        || {
            let answer = TcpStream::connect_timeout(&to, SHORT);
            answer.is_err_and(|error| error.kind() == ErrorKind::TimedOut)
        },
    );
}

/// A Service, and the address that it has.
pub fn service(number: u8) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": format!("web{number}"), "namespace": NAMESPACE},
        "spec": {
            "clusterIP": cluster_ip(number).to_string(),
            "clusterIPs": [cluster_ip(number).to_string()],
            "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
        },
    })
}

/// The slice of a Service, with endpoints by number.
pub fn slice(number: u8, endpoints: &[u8]) -> Value {
    let endpoints = endpoints.iter().map(|endpoint| {
        json!({
            "addresses": [endpoint_ip(*endpoint).to_string()],
            "conditions": {"ready": true, "serving": true, "terminating": false},
        })
    });
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("web{number}-1"),
            "namespace": NAMESPACE,
            "labels": {"kubernetes.io/service-name": format!("web{number}")},
        },
        "addressType": "IPv4",
        "endpoints": endpoints.collect::<Vec<_>>(),
        "ports": [{"name": "http", "port": ENDPOINT_PORT, "protocol": "TCP"}],
    })
}

/// Asks a Service once; the number of the endpoint that answered.
fn ask(service: u8, patience: Duration) -> std::io::Result<u8> {
    let to = SocketAddr::from((cluster_ip(service), 80));
    let mut stream = TcpStream::connect_timeout(&to, patience)?;
    stream.set_read_timeout(Some(patience))?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    Ok(answer[0])
}

/// The program: another build of it where `TWEED_PROXY` names one.
fn program() -> OsString {
    let usual = || env!("CARGO_BIN_EXE_service-proxy").into();
    env::var_os("TWEED_PROXY").unwrap_or_else(usual)
}

/// Runs nft, and answers with what it prints.
pub fn nft(arguments: &str) -> String {
    let output = Command::new("nft")
        .args(arguments.split(' '))
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn configuration(directory: &Path, lines: &str) -> String {
    format!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n\
         clientConnection: {{kubeconfig: {}}}\n{lines}",
        directory.join("kubeconfig").display()
    )
}

fn cluster_ip(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 96, 7, number)
}

fn endpoint_ip(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, 0, number)
}

/// Gives loopback the endpoints' addresses, and a way to everywhere.
fn configure() {
    let loopback = IfIndex(1);
    let up = LinkSettings {
        up: Some(true),
        ..LinkSettings::default()
    };
    let mut route = Handle::open().unwrap();
    route.apply(&[Change::SetLink(loopback, up)]).unwrap();
    for number in 1..=ENDPOINTS {
        let address = IpNetwork::new(endpoint_ip(number).into(), 32).unwrap();
        let change = Change::ReplaceAddress(Address::global(loopback, address));
        route.apply(&[change]).unwrap();
    }
    let everywhere = Route {
        destination: "0.0.0.0/0".parse().unwrap(),
        next_hop: NextHop::Link(loopback),
        protocol: Protocol::STATIC,
        table: Route::MAIN,
        metric: 0,
        source: Some(IpAddr::from(endpoint_ip(1))),
    };
    route.apply(&[Change::ReplaceRoute(everywhere)]).unwrap();
}

/// Answers every connection with the endpoint's number.
fn serve(number: u8) {
    let listener = TcpListener::bind((endpoint_ip(number), ENDPOINT_PORT)).unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // A client that has gone is none of our business.
            stream.write_all(&[number]).ok();
        }
    });
}
