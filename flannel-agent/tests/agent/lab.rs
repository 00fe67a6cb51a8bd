//! A small lab: an underlay with an etcd, nodes on it, agents on the nodes.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{IpAddr, TcpStream},
    os::{fd::AsRawFd, unix::net::UnixDatagram},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use etcd_client::{Client, GetOptions, KeyValue, PutOptions};
use kernel::{
    netns::Namespace,
    route::{Address, Change, Handle, IfIndex, NewLink, NewLinkKind, VethPeer},
};
use lab::{default_route, up};
use tempfile::TempDir;

/// Where etcd stores what the tests are about.
pub const PREFIX: &str = "/coreos.com/network";
const AGENT: &str = env!("CARGO_BIN_EXE_flannel-agent");
const GATEWAY: &str = "192.168.64.254";
const GATEWAY_V6: &str = "fd64::fe";

/// A network namespace that is gone with its owner.
pub struct TestNamespace {
    name: String,
    pub namespace: Namespace,
}

/// The hub that all nodes are connected to, with an etcd on it.
pub struct Lab {
    test: String,
    pub hub: TestNamespace,
    pub etcd: Etcd,
}

/// An etcd that is gone with its owner.
pub struct Etcd {
    namespace: Namespace,
    data: TempDir,
    child: Option<Child>,
}

/// A node: a namespace with an uplink, perhaps with an agent.
pub struct Node {
    test: String,
    pub number: u8,
    pub host: TestNamespace,
    pub directory: TempDir,
    /// Where systemd would listen.
    systemd: UnixDatagram,
    agent: Option<Child>,
}

// === impl TestNamespace ===

impl TestNamespace {
    pub fn new(test: &str, part: &str) -> Self {
        let name = format!("tweed-agent-{test}-{part}-{}", std::process::id());
        let namespace = Namespace::create_named(&name).unwrap();
        let made = Self { name, namespace };
        let mut kernel = made.kernel();
        let loopback = kernel
            .link_by_name(&"lo".parse().unwrap())
            .unwrap()
            .unwrap();
        kernel.apply(&[up(loopback.index)]).unwrap();
        made
    }

    pub fn kernel(&self) -> Handle {
        Handle::open_in(&self.namespace).unwrap()
    }

    /// Runs async work on a runtime of its own inside the namespace.
    pub fn block_on<T: Send>(&self, work: impl AsyncFnOnce() -> T + Send) -> T {
        self.namespace.run(|| runtime().block_on(work())).unwrap()
    }
}

impl Drop for TestNamespace {
    fn drop(&mut self) {
        Namespace::delete_named(&self.name).unwrap();
    }
}

// === impl Etcd ===

impl Etcd {
    pub fn start(namespace: &Namespace) -> Self {
        let mut etcd = Self {
            namespace: Namespace::open(namespace.path()).unwrap(),
            data: tempfile::tempdir().unwrap(),
            child: None,
        };
        etcd.run();
        etcd
    }

    /// Starts it, or starts it again, and waits until it answers.
    pub fn run(&mut self) {
        let log = fs::File::create(self.data.path().join("log")).unwrap();
        let mut command = Command::new("etcd");
        command
            .args(["--data-dir", self.store().to_str().unwrap()])
            .args(["--listen-client-urls", "http://[::]:2379"])
            .args(["--advertise-client-urls", "http://127.0.0.1:2379"])
            .args(["--unsafe-no-fsync"])
            .stdout(Stdio::null())
            .stderr(log);
        self.child = Some(self.namespace.run(|| command.spawn().unwrap()).unwrap());
        eventually("etcd answers", || {
            let reached = self
                .namespace
                .run(|| TcpStream::connect("127.0.0.1:2379").is_ok())
                .unwrap();
            reached
                && self
                    .try_do(|mut client| async move { client.get("x", None).await })
                    .is_ok()
        });
    }

    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// The directory that all it knows is in.
    fn store(&self) -> PathBuf {
        self.data.path().join("data")
    }

    /// Asks etcd.
    pub fn with<T: Send, F: Future<Output = Result<T, etcd_client::Error>>>(
        &self,
        work: impl FnOnce(Client) -> F + Send,
    ) -> T {
        self.try_do(work).unwrap()
    }

    fn try_do<T: Send, F: Future<Output = Result<T, etcd_client::Error>>>(
        &self,
        work: impl FnOnce(Client) -> F + Send,
    ) -> Result<T, etcd_client::Error> {
        let work = || {
            runtime().block_on(async {
                let client = Client::connect(["http://127.0.0.1:2379"], None).await?;
                work(client).await
            })
        };
        self.namespace.run(work).unwrap()
    }

    pub fn put(&self, key: &str, value: &str) {
        self.with(
            |mut client| async move { client.put(format!("{PREFIX}/{key}"), value, None).await },
        );
    }

    /// Puts a key that ends with an etcd lease, as every lease of flannel does.
    pub fn put_leased(&self, key: &str, value: &str) {
        self.with(|mut client| async move {
            let lease = client.lease_grant(86_400, None).await?.id();
            let options = PutOptions::new().with_lease(lease);
            client
                .put(format!("{PREFIX}/{key}"), value, Some(options))
                .await
        });
    }

    pub fn delete(&self, key: &str) {
        self.with(|mut client| async move { client.delete(format!("{PREFIX}/{key}"), None).await });
    }

    /// Puts what was copied from [`store`](Self::store), or nothing, in the place of what it knows.
    pub fn replace_store(&self, copy: Option<&Path>) {
        if self.store().exists() {
            fs::remove_dir_all(self.store()).unwrap();
        }
        if let Some(copy) = copy {
            copy_directory(copy, &self.store());
        }
    }

    /// Copies what it knows while it is stopped.
    pub fn copy_store(&self, to: &Path) {
        copy_directory(&self.store(), to);
    }

    /// Ends a key by its etcd lease, as if that had run out.
    pub fn revoke(&self, key: &str) {
        let found = self.below(key);
        if let Some(lease) = found.first().map(KeyValue::lease).filter(|it| *it != 0) {
            self.with(|mut client| async move { client.lease_revoke(lease).await });
        }
    }

    /// What it counts.
    pub fn metrics(&self) -> String {
        let get = || {
            let mut stream = TcpStream::connect("127.0.0.1:2379").unwrap();
            stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        };
        self.namespace.run(get).unwrap()
    }

    /// How often a method was called so far.
    pub fn calls(&self, method: &str) -> u64 {
        let started = format!("grpc_server_started_total{{grpc_method=\"{method}\"");
        let metrics = self.metrics();
        let line = metrics.lines().find(|line| line.starts_with(&started));
        line.map_or(0, |line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
    }

    /// Forgets all history.
    pub fn compact(&self) {
        self.with(|mut client| async move {
            // A revision can be compacted only once.
            let written = client.put("compacted", "", None).await?;
            let now = written.header().map_or(0, |it| it.revision());
            client.compact(now, None).await
        });
    }

    /// All leases, in the order of their keys.
    pub fn leases(&self) -> Vec<KeyValue> {
        self.below("subnets/")
    }

    /// All that has a key with such a beginning, in the order of the keys.
    pub fn below(&self, prefix: &str) -> Vec<KeyValue> {
        self.with(|mut client| async move {
            let options = GetOptions::new().with_prefix();
            let mut found = client
                .get(format!("{PREFIX}/{prefix}"), Some(options))
                .await?;
            Ok(found.take_kvs())
        })
    }

    /// The lease whose value contains a text, as `(name, value)`.
    pub fn lease_of(&self, text: &str) -> Option<(String, String)> {
        self.leases().iter().find_map(|kv| {
            let value = kv.value_str().unwrap().to_owned();
            value.contains(text).then(|| (name(kv), value))
        })
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The name of a lease: its key without the prefix.
pub fn name(kv: &KeyValue) -> String {
    let key = kv.key_str().unwrap();
    key.strip_prefix(&format!("{PREFIX}/subnets/"))
        .unwrap()
        .to_owned()
}

// === impl Lab ===

impl Lab {
    /// An underlay 192.168.64.0/24 and fd64::/64 with an etcd and this network configuration.
    pub fn new(test: &str, conf: &str) -> Self {
        let hub = TestNamespace::new(test, "hub");
        let mut kernel = hub.kernel();
        let bridge = NewLink {
            up: true,
            ..NewLink::new("br0".parse().unwrap(), NewLinkKind::Bridge)
        };
        kernel.apply(&[Change::AddLink(bridge)]).unwrap();
        let bridge = index(&mut kernel, "br0");
        kernel
            .apply(&[
                address(bridge, &format!("{GATEWAY}/24")),
                address(bridge, &format!("{GATEWAY_V6}/64")),
            ])
            .unwrap();
        let etcd = Etcd::start(&hub.namespace);
        etcd.put("config", conf);
        Self {
            test: test.to_owned(),
            hub,
            etcd,
        }
    }

    /// Runs `ip` at the hub.
    pub fn ip(&self, arguments: &[&str]) {
        let run = || Command::new("ip").args(arguments).status().unwrap();
        assert!(
            self.hub.namespace.run(run).unwrap().success(),
            "{arguments:?}"
        );
    }

    /// A node with address 192.168.64.`number` on `eth0`, by which its default route goes.
    pub fn node(&self, number: u8) -> Node {
        let bridge = index(&mut self.hub.kernel(), "br0");
        self.node_with(number, "192.168.64", GATEWAY, Some(bridge))
    }

    /// A node on a link of its own, as 192.168.65.`number`, with the hub as router to the others.
    pub fn far_node(&self, number: u8) -> Node {
        let gateway = "192.168.65.254";
        let node = self.node_with(number, "192.168.65", gateway, None);
        let mut hub = self.hub.kernel();
        let link = index(&mut hub, &format!("veth{number}"));
        hub.apply(&[address(link, &format!("{gateway}/24"))])
            .unwrap();
        let forward = || kernel::sysctl::set("net/ipv4/ip_forward", "1").unwrap();
        self.hub.namespace.run(forward).unwrap();
        node
    }

    fn node_with(&self, number: u8, network: &str, gateway: &str, bridge: Option<IfIndex>) -> Node {
        let host = TestNamespace::new(&self.test, &format!("n{number}"));
        let peer = VethPeer::new("eth0".parse().unwrap(), Some(host.namespace.as_raw_fd()));
        let uplink = NewLink {
            up: true,
            master: bridge,
            ..NewLink::new(
                format!("veth{number}").parse().unwrap(),
                NewLinkKind::Veth(peer),
            )
        };
        let mut hub = self.hub.kernel();
        hub.apply(&[Change::AddLink(uplink)]).unwrap();
        let mut kernel = host.kernel();
        let eth0 = index(&mut kernel, "eth0");
        kernel
            .apply(&[
                up(eth0),
                address(eth0, &format!("{network}.{number}/24")),
                address(eth0, &format!("fd64::{number}/64")),
                default_route(eth0, gateway.parse().unwrap()),
            ])
            .unwrap();
        let directory = tempfile::tempdir().unwrap();
        let systemd = UnixDatagram::bind(directory.path().join("systemd")).unwrap();
        systemd
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        Node {
            test: self.test.clone(),
            number,
            host,
            directory,
            systemd,
            agent: None,
        }
    }
}

// === impl Node ===

impl Node {
    /// A pod in the node's lease, with its address: the first after the node's own.
    pub fn pod_in(&self, lease: &str) -> (TestNamespace, IpAddr) {
        let ipv4 = lease.split('-').next().unwrap();
        let prefix = ipv4.rsplit_once('.').unwrap().0;
        let address = format!("{prefix}.2");
        let pod = self.pod(&address, &format!("{prefix}.1"));
        (pod, address.parse().unwrap())
    }

    /// A pod with this address, whose gateway is the node.
    pub fn pod(&self, pod: &str, gateway: &str) -> TestNamespace {
        let made = TestNamespace::new(&self.test, &format!("pod{}", self.number));
        let mut kernel = self.host.kernel();
        let peer = VethPeer::new("eth0".parse().unwrap(), Some(made.namespace.as_raw_fd()));
        let link = NewLink {
            up: true,
            ..NewLink::new("pod0".parse().unwrap(), NewLinkKind::Veth(peer))
        };
        kernel.apply(&[Change::AddLink(link)]).unwrap();
        let pod0 = index(&mut kernel, "pod0");
        kernel
            .apply(&[address(pod0, &format!("{gateway}/24"))])
            .unwrap();
        let mut kernel = made.kernel();
        let eth0 = index(&mut kernel, "eth0");
        kernel
            .apply(&[
                up(eth0),
                address(eth0, &format!("{pod}/24")),
                default_route(eth0, gateway.parse().unwrap()),
            ])
            .unwrap();
        let forward = || kernel::sysctl::set("net/ipv4/ip_forward", "1").unwrap();
        self.host.namespace.run(forward).unwrap();
        made
    }

    /// Starts an agent with further arguments.
    pub fn start(&mut self, arguments: &[&str]) {
        let log = self.open_log();
        self.start_by(agent_command().stderr(log), arguments);
    }

    /// Starts an agent that nobody hears, and waits until it is ready.
    pub fn start_ready_unheard(&mut self) {
        let (_, closed) = std::io::pipe().unwrap();
        self.start_by(agent_command().stderr(closed), &[]);
        self.wait_until_ready();
    }

    /// Starts an agent where it can't write to `/proc/sys`, as in a container that is not privileged, and waits until
    /// it is ready.
    pub fn start_ready_in_container(&mut self) {
        let script = "mount --bind /proc/sys /proc/sys
            mount -o remount,bind,ro /proc/sys
            exec \"$0\" \"$@\"";
        let mut command = bare(Command::new("unshare"));
        command.args(["--mount", "--propagation=private", "sh", "-ec", script]);
        command.arg(AGENT).stderr(self.open_log());
        self.start_by(&mut command, &[]);
        self.wait_until_ready();
    }

    fn start_by(&mut self, command: &mut Command, arguments: &[&str]) {
        self.forget_ready();
        command
            .arg(format!("--etcd-endpoints=http://{GATEWAY}:2379"))
            .arg("--subnet-file")
            .arg(self.subnet_file())
            .args(arguments)
            .env("NODE_NAME", format!("node{}", self.number))
            .env("WIREGUARD_KEY_FILE", self.directory.path().join("wgkey"))
            .env("NOTIFY_SOCKET", self.directory.path().join("systemd"));
        let child = self
            .host
            .namespace
            .run(|| command.spawn().unwrap())
            .unwrap();
        self.agent = Some(child);
    }

    /// Starts an agent and waits until it is ready.
    pub fn start_ready(&mut self, arguments: &[&str]) {
        self.start(arguments);
        self.wait_until_ready();
    }

    /// Forgets what agents before told systemd: who tells it more waits until that was heard.
    fn forget_ready(&self) {
        self.systemd.set_nonblocking(true).unwrap();
        while self.systemd.recv(&mut [0; 64]).is_ok() {}
        self.systemd.set_nonblocking(false).unwrap();
    }

    /// Fills the socket of a systemd that hears nothing.
    pub fn deafen_systemd(&self) {
        let sender = UnixDatagram::unbound().unwrap();
        sender.set_nonblocking(true).unwrap();
        let path = self.directory.path().join("systemd");
        while sender.send_to(b"noise", &path).is_ok() {}
    }

    /// Waits until the agent tells systemd that it is ready.
    pub fn wait_until_ready(&self) {
        let mut message = [0; 64];
        let len = loop {
            match self.systemd.recv(&mut message) {
                // A signal ends what waits with a time limit, whatever its handler wants.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other.expect("the agent never was ready"),
            }
        };
        assert_eq!(&message[..len], b"READY=1\n");
    }

    /// Gives the node another address on its uplink.
    pub fn move_to(&self, address: &str) {
        let flush = ["address", "flush", "dev", "eth0", "scope", "global"];
        self.ip("ip", &flush);
        self.ip("ip", &["address", "add", address, "dev", "eth0"]);
    }

    /// Ends the agent by a signal, and answers how it ended.
    pub fn stop(&mut self, signal: nix::sys::signal::Signal) -> ExitStatus {
        let mut agent = self.agent.take().unwrap();
        let pid = nix::unistd::Pid::from_raw(agent.id().cast_signed());
        nix::sys::signal::kill(pid, signal).unwrap();
        agent.wait().unwrap()
    }

    /// Whether an agent was started and has not ended.
    pub fn is_running(&mut self) -> bool {
        let agent = self.agent.as_mut();
        agent.is_some_and(|agent| agent.try_wait().unwrap().is_none())
    }

    /// Waits until the agent ends by itself, and answers how it did.
    pub fn wait(&mut self) -> ExitStatus {
        self.agent.take().unwrap().wait().unwrap()
    }

    pub fn subnet_file(&self) -> PathBuf {
        self.directory.path().join("run/subnet.env")
    }

    pub fn subnet_env(&self) -> String {
        fs::read_to_string(self.subnet_file()).unwrap()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    pub fn count_in_log(&self, text: &str) -> usize {
        self.log().matches(text).count()
    }

    pub fn underlay(&self) -> IpAddr {
        IpAddr::from([192, 168, 64, self.number])
    }

    /// Runs a command of iproute2 in the node and answers what it prints.
    pub fn ip(&self, program: &str, arguments: &[&str]) -> String {
        let output = self
            .host
            .namespace
            .run(|| Command::new(program).args(arguments).output().unwrap())
            .unwrap();
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {output:?}"
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// The same for a command that may fail, and print less then.
    pub fn try_ip(&self, program: &str, arguments: &[&str]) -> String {
        let run = || Command::new(program).args(arguments).output().unwrap();
        let output = self.host.namespace.run(run).unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    fn open_log(&self) -> fs::File {
        let mut options = fs::File::options();
        let options = options.create(true).append(true);
        options.open(self.log_path()).unwrap()
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("log")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(agent) = &mut self.agent {
            agent.kill().unwrap();
            agent.wait().unwrap();
        }
        if thread::panicking() {
            eprintln!(
                "log of node {}:\n{}",
                self.number,
                fs::read_to_string(self.log_path()).unwrap_or_default()
            );
        }
    }
}

fn copy_directory(from: &Path, to: &Path) {
    if to.exists() {
        fs::remove_dir_all(to).unwrap();
    }
    let copied = Command::new("cp").arg("-r").args([from, to]).status();
    assert!(copied.unwrap().success());
}

/// The program under test, without an environment that could reach it.
pub fn agent_command() -> Command {
    bare(Command::new(AGENT))
}

/// With no environment but PATH, and nothing to read.
fn bare(mut command: Command) -> Command {
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// Waits for what has to come, but not for ever.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < end, "in vain waited until {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

pub fn index(kernel: &mut Handle, name: &str) -> IfIndex {
    let link = kernel.link_by_name(&name.parse().unwrap()).unwrap();
    link.unwrap_or_else(|| panic!("no interface {name}")).index
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn address(interface: IfIndex, text: &str) -> Change {
    Change::ReplaceAddress(Address::global(interface, text.parse().unwrap()))
}
