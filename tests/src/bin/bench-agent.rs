//! Measures flannel-agent, and flanneld beside it: how long until all leases stand in the kernel, at start and
//! in a burst, how much memory that takes, and what is left of a VXLAN's throughput.

use std::{
    cell::Cell,
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd, AsRawFd},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use etcd_client::{Client, PutOptions, Txn, TxnOp};
use ipnetwork::IpNetwork;
use kernel::{
    Family,
    route::{
        Change, Event, IfIndex, Monitor, NewLink, NewLinkKind, NextHop, Route, Topic, VethPeer,
    },
};
use lab::{Host, wait_until};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tempfile::TempDir;

const PREFIX: &str = "/coreos.com/network";
/// Room for 8,191 nodes.
const CONF: &str = r#"{"Network":"10.0.0.0/11","SubnetLen":24,"Backend":{"Type":"vxlan"}}"#;
const HUB: &str = "192.168.64.254";
/// How many leases are written in one transaction; etcd takes up to 128 operations.
const BATCH: usize = 100;
/// How many leases of a burst are on their way to etcd at one time.
const WRITERS: usize = 8;
/// What is sent at one time, in bytes.
const CHUNK: usize = 128 << 10;

/// Measures agents, in network namespaces of its own.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The agent; a release build, to be fair.
    #[arg(long, default_value = "target/release/flannel-agent")]
    agent: PathBuf,
    /// flannel's, to be measured beside it.
    #[arg(long)]
    flanneld: Option<PathBuf>,
    /// How many leases there are at start; may be given several times.
    #[arg(long, default_values_t = [1_000, 5_000])]
    leases: Vec<usize>,
    /// How many leases are written in a burst; may be given several times.
    #[arg(long, default_values_t = [500, 1_000])]
    burst: Vec<usize>,
    /// How often each is measured.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long data are sent in each direction of comparison, in seconds; 0 for not at all.
    #[arg(long, default_value_t = 3)]
    send: u64,
}

/// An underlay with an etcd.
struct Underlay {
    hub: Bench,
    etcd: Child,
    /// How many links were made; the kernel takes its time to remove one.
    links: Cell<usize>,
    _data: TempDir,
}

/// A host that is gone with its owner.
struct Bench(Host);

/// A node of the underlay with an agent.
struct Node {
    host: Bench,
    agent: Option<Child>,
    directory: TempDir,
}

/// Tells when which route came to stand.
struct Routes {
    seen: Arc<Mutex<BTreeMap<IpAddr, Instant>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

/// What is left for a burst: how long its routes took.
struct Burst {
    p50: Duration,
    p99: Duration,
    /// From the last write to the last route.
    end: Duration,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let agents: Vec<_> = [Some(&arguments.agent), arguments.flanneld.as_ref()]
        .into_iter()
        .flatten()
        .map(|path| fs::canonicalize(path).with_context(|| path.display().to_string()))
        .collect::<Result<_>>()?;
    println!("| agent | | best | median | memory |\n|---|---|---|---|---|");
    for agent in &agents {
        for &leases in &arguments.leases {
            start(agent, leases, arguments.rounds)?;
        }
        for &leases in &arguments.burst {
            burst(agent, leases, arguments.rounds)?;
        }
        if arguments.send > 0 {
            throughput(agent, Duration::from_secs(arguments.send), arguments.rounds)?;
        }
    }
    Ok(())
}

// === impl Bench ===

impl Bench {
    fn create(name: &str) -> Result<Self> {
        Ok(Self(Host::create(&format!(
            "tweed-bench-{name}-{}",
            std::process::id()
        ))?))
    }

    fn ip(&self, program: &str, arguments: &str) -> Result<String> {
        self.0
            .text(Command::new(program).args(arguments.split(' ')))
    }

    /// A link from here to an `eth0` there.
    fn connect(&self, name: &str, other: &Self, master: Option<IfIndex>) -> Result<()> {
        let peer = VethPeer {
            name: "eth0".parse()?,
            namespace: Some(other.0.namespace().as_raw_fd()),
            mac: None,
            mtu: None,
        };
        let link = NewLink {
            name: name.parse()?,
            kind: NewLinkKind::Veth(peer),
            mac: None,
            mtu: None,
            up: true,
            master,
        };
        Ok(self.0.route()?.apply(&[Change::AddLink(link)])?)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Err(error) = self.0.destroy() {
            eprintln!("{} stays: {error:#}", self.0.name());
        }
    }
}

// === impl Underlay ===

impl Underlay {
    fn start() -> Result<Self> {
        let hub = Bench::create("hub")?;
        hub.ip("ip", "link add br0 up type bridge")?;
        hub.0.configure("br0", format!("{HUB}/24").parse()?)?;
        let data = tempfile::Builder::new().prefix("tweed-bench-").tempdir()?;
        let mut command = Command::new("etcd");
        command
            .arg("--data-dir")
            .arg(data.path())
            .args(["--listen-client-urls", "http://0.0.0.0:2379"])
            .args(["--advertise-client-urls", "http://127.0.0.1:2379"])
            .args(["--unsafe-no-fsync", "--quota-backend-bytes", "8000000000"])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let etcd = hub.0.spawn(&mut command)?;
        let underlay = Self {
            hub,
            etcd,
            links: Cell::new(0),
            _data: data,
        };
        wait_until("etcd to answer", || {
            Ok(underlay
                .ask(async |mut client| client.get("x", None).await)
                .is_ok())
        })?;
        let key = format!("{PREFIX}/config");
        underlay.ask(async |mut client| client.put(key, CONF, None).await)?;
        Ok(underlay)
    }

    fn ask<T: Send>(
        &self,
        work: impl AsyncFnOnce(Client) -> Result<T, etcd_client::Error> + Send,
    ) -> Result<T> {
        self.hub.0.within(|| -> Result<T> {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let client = Client::connect(["http://127.0.0.1:2379"], None).await?;
                Ok(work(client).await?)
            })
        })?
    }

    /// Writes many leases as fast as possible, all with one etcd lease.
    fn fill(&self, leases: usize) -> Result<()> {
        self.ask(async |mut client| {
            let lease = client.lease_grant(86_400, None).await?.id();
            let numbers: Vec<_> = (1..=leases).collect();
            for numbers in numbers.chunks(BATCH) {
                let options = || Some(PutOptions::new().with_lease(lease));
                let puts = numbers
                    .iter()
                    .map(|&number| TxnOp::put(key(number), value(number), options()));
                client
                    .txn(Txn::new().and_then(puts.collect::<Vec<_>>()))
                    .await?;
            }
            Ok(())
        })
    }

    /// Writes leases one by one, some at a time; answers when etcd had acknowledged each.
    fn write(&self, leases: usize) -> Result<BTreeMap<IpAddr, Instant>> {
        self.ask(async |mut client| {
            let lease = client.lease_grant(86_400, None).await?.id();
            let writers = (0..WRITERS).map(|writer| {
                let mut client = client.clone();
                async move {
                    let mut written = Vec::new();
                    for number in (1..=leases).filter(|number| number % WRITERS == writer) {
                        let options = Some(PutOptions::new().with_lease(lease));
                        client.put(key(number), value(number), options).await?;
                        written.push((subnet(number), Instant::now()));
                    }
                    Ok::<_, etcd_client::Error>(written)
                }
            });
            let written = futures_util::future::try_join_all(writers).await?;
            Ok(written.into_iter().flatten().collect())
        })
    }

    fn node(&self, number: u8) -> Result<Node> {
        let host = Bench::create(&format!("node{number}"))?;
        let mut hub = self.hub.0.route()?;
        let bridge = hub.link_by_name(&"br0".parse()?)?.context("no br0")?;
        self.links.update(|links| links + 1);
        let link = format!("veth{}", self.links.get());
        self.hub.connect(&link, &host, Some(bridge.index))?;
        host.0
            .configure("eth0", format!("192.168.64.{number}/24").parse()?)?;
        host.ip("ip", &format!("route add default via {HUB}"))?;
        Ok(Node {
            host,
            agent: None,
            directory: tempfile::Builder::new().prefix("tweed-bench-").tempdir()?,
        })
    }
}

impl Drop for Underlay {
    fn drop(&mut self) {
        end(&mut self.etcd);
    }
}

// === impl Node ===

impl Node {
    fn start(&mut self, agent: &Path) -> Result<()> {
        let log = fs::File::create(self.directory.path().join("log"))?;
        let mut command = Command::new(agent);
        command
            .arg(format!("--etcd-endpoints=http://{HUB}:2379"))
            .arg("--subnet-file")
            .arg(self.subnet_file())
            // flanneld runs iptables for these.
            .arg("--iptables-forward-rules=false")
            .stdout(Stdio::null())
            .stderr(log);
        self.agent = Some(self.host.0.spawn(&mut command)?);
        Ok(())
    }

    fn subnet_file(&self) -> PathBuf {
        self.directory.path().join("subnet.env")
    }

    /// The first address of the node's subnet.
    fn gateway(&self) -> Result<Ipv4Addr> {
        let text = fs::read_to_string(self.subnet_file())?;
        let line = text
            .lines()
            .find_map(|it| it.strip_prefix("FLANNEL_SUBNET="));
        let subnet: IpNetwork = line.context("no FLANNEL_SUBNET")?.parse()?;
        match subnet.ip() {
            IpAddr::V4(gateway) => Ok(gateway),
            IpAddr::V6(gateway) => anyhow::bail!("{gateway} is not IPv4"),
        }
    }

    /// The memory that the agent has, and the most that it had, in KiB.
    fn memory(&self) -> Result<(u64, u64)> {
        let agent = self.agent.as_ref().context("no agent")?;
        let status = fs::read_to_string(format!("/proc/{}/status", agent.id()))?;
        let number = |field: &str| -> Result<u64> {
            let line = status.lines().find_map(|it| it.strip_prefix(field));
            let number = line.and_then(|it| it.split_whitespace().next());
            Ok(number.with_context(|| format!("no {field}"))?.parse()?)
        };
        Ok((number("VmRSS:")?, number("VmHWM:")?))
    }

    /// How many neighbours and forwarding entries stand on the tunnel's device.
    fn entries(&self) -> Result<(usize, usize)> {
        let mut kernel = self.host.0.route()?;
        let device = kernel.link_by_name(&"flannel.1".parse()?)?;
        let device = device.context("no flannel.1")?.index;
        let neighbours = kernel.neighbours(Family::V4, device)?;
        let permanent = neighbours.iter().filter(|it| it.permanent).count();
        Ok((permanent, kernel.fdb(device)?.len()))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(agent) = &mut self.agent {
            end(agent);
        }
    }
}

// === impl Routes ===

impl Routes {
    fn watch(node: &Node) -> Result<Self> {
        let mut monitor = Monitor::open_in(node.host.0.namespace(), &[Topic::Routes])?;
        let mut kernel = node.host.0.route()?;
        let seen = Arc::new(Mutex::new(BTreeMap::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (into, stopped) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let mut fds = [PollFd::new(monitor.as_fd(), PollFlags::POLLIN)];
                poll(&mut fds, PollTimeout::from(20_u8))?;
                let now = Instant::now();
                let mut events = monitor.events()?;
                if events.contains(&Event::Resync) {
                    let routes = kernel.routes(Family::V4)?;
                    events.extend(routes.into_iter().map(Event::RouteChanged));
                }
                let Ok(mut seen) = into.lock() else { break };
                for event in events {
                    if let Event::RouteChanged(route) = event
                        && is_of_a_node(&route)
                    {
                        seen.entry(route.destination.ip()).or_insert(now);
                    }
                }
            }
            Ok(())
        });
        Ok(Self {
            seen,
            stop,
            thread: Some(thread),
        })
    }

    /// Waits until there are so many, and answers when each came.
    fn wait_for(mut self, routes: usize) -> Result<BTreeMap<IpAddr, Instant>> {
        wait_until(&format!("{routes} routes"), || {
            Ok(self.seen.lock().map_or(0, |seen| seen.len()) >= routes)
        })?;
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread
                .join()
                .map_err(|_| anyhow::anyhow!("the monitor panicked"))??;
        }
        let seen = self.seen.lock().map(|mut seen| std::mem::take(&mut *seen));
        seen.map_err(|_| anyhow::anyhow!("the monitor panicked"))
    }
}

fn is_of_a_node(route: &Route) -> bool {
    let gateway = match route.next_hop {
        NextHop::Gateway { gateway, .. } => gateway,
        _ => return false,
    };
    gateway == route.destination.ip()
}

fn key(number: usize) -> String {
    format!("{PREFIX}/subnets/{}-24", subnet(number))
}

/// The address of a /24. Numbers begin with 1, as the first subnet of a network is none for nodes.
fn subnet(number: usize) -> IpAddr {
    Ipv4Addr::from((10 << 24) + ((number as u32) << 8)).into()
}

fn value(number: usize) -> String {
    let address = Ipv4Addr::from((172 << 24) + (16 << 16) + number as u32);
    let [high, low] = [number >> 8, number & 0xff];
    format!(
        r#"{{"PublicIP":"{address}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"0e:00:00:00:{high:02x}:{low:02x}"}}}}"#
    )
}

/// From the start of a program to the last of the routes, on a node that has nothing.
fn start(agent: &Path, leases: usize, rounds: usize) -> Result<()> {
    let mut times = Vec::new();
    let mut memory = (0, 0);
    let underlay = Underlay::start()?;
    underlay.fill(leases)?;
    for _ in 0..rounds {
        let mut node = underlay.node(1)?;
        let routes = Routes::watch(&node)?;
        let begun = Instant::now();
        node.start(agent)?;
        let seen = routes.wait_for(leases)?;
        times.push(last(&seen).duration_since(begun));
        wait_until("neighbours and forwarding entries", || {
            Ok(node.entries()? == (leases, leases))
        })?;
        thread::sleep(Duration::from_secs(1));
        memory = node.memory()?;
    }
    let (best, median) = of(times);
    println!(
        "| {} | start with {leases} leases | {best:.1?} | {median:.1?} | {:.1} MiB, at most {:.1} |",
        name(agent),
        memory.0 as f64 / 1024.0,
        memory.1 as f64 / 1024.0
    );
    Ok(())
}

fn burst(agent: &Path, leases: usize, rounds: usize) -> Result<()> {
    let mut bursts = Vec::new();
    let mut memory = (0, 0);
    for _ in 0..rounds {
        let underlay = Underlay::start()?;
        let mut node = underlay.node(1)?;
        node.start(agent)?;
        wait_until("subnet.env", || Ok(node.subnet_file().exists()))?;
        thread::sleep(Duration::from_secs(1));
        let routes = Routes::watch(&node)?;
        let written = underlay.write(leases)?;
        // The node's own subnet may be one of them; it has no route.
        let own = IpAddr::from(node.gateway()?);
        let own = usize::from(written.keys().any(|it| is_gateway_of(own, *it)));
        let seen = routes.wait_for(leases - own)?;
        let mut times: Vec<_> = seen
            .iter()
            .filter_map(|(subnet, at)| Some(at.saturating_duration_since(*written.get(subnet)?)))
            .collect();
        times.sort();
        bursts.push(Burst {
            p50: times[times.len() / 2],
            p99: times[times.len() * 99 / 100],
            end: last(&seen).saturating_duration_since(last(&written)),
        });
        memory = node.memory()?;
    }
    for (what, value) in [
        ("p50", (|it| it.p50) as fn(&Burst) -> Duration),
        ("p99", |it| it.p99),
        ("end", |it| it.end),
    ] {
        let (best, median) = of(bursts.iter().map(value).collect());
        println!(
            "| {} | burst of {leases}, {what} | {best:.1?} | {median:.1?} | {:.1} MiB, at most {:.1} |",
            name(agent),
            memory.0 as f64 / 1024.0,
            memory.1 as f64 / 1024.0
        );
    }
    Ok(())
}

/// From pod to pod, over the agent's overlay and over a VXLAN that is set up by hand on the same nodes.
fn throughput(agent: &Path, duration: Duration, rounds: usize) -> Result<()> {
    let underlay = Underlay::start()?;
    let mut nodes = [underlay.node(1)?, underlay.node(2)?];
    for node in &mut nodes {
        node.start(agent)?;
        wait_until("subnet.env", || Ok(node.subnet_file().exists()))?;
    }
    let gateways = [nodes[0].gateway()?, nodes[1].gateway()?];
    let by_hand = [Ipv4Addr::new(10, 99, 1, 1), Ipv4Addr::new(10, 99, 2, 1)];
    let pods = [
        pod(&nodes[0], "a", [gateways[0], by_hand[0]])?,
        pod(&nodes[1], "b", [gateways[1], by_hand[1]])?,
    ];
    for (index, node) in nodes.iter().enumerate() {
        vxlan(node, index as u8 + 1)?;
    }
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (rates, gateway) in rates.iter_mut().zip([gateways, by_hand]) {
            let [from, to] = gateway.map(|it| Ipv4Addr::from(u32::from(it) + 1));
            rates.push(send(&pods, from, to, duration)?);
        }
    }
    for rates in &mut rates {
        rates.sort_by(f64::total_cmp);
    }
    let [agents, hands] = rates.map(|it| it[it.len() / 2]);
    println!(
        "| {} | TCP from pod to pod, of a VXLAN by hand | {:.3} | {agents:.2} of {hands:.2} Gbit/s | |",
        name(agent),
        agents / hands
    );
    Ok(())
}

/// A pod with the addresses after the gateways'.
fn pod(node: &Node, name: &str, gateways: [Ipv4Addr; 2]) -> Result<Bench> {
    let pod = Bench::create(&format!("pod-{name}"))?;
    node.host.connect("pod0", &pod, None)?;
    for gateway in gateways {
        let address = Ipv4Addr::from(u32::from(gateway) + 1);
        node.host
            .0
            .configure("pod0", format!("{gateway}/24").parse()?)?;
        pod.0.configure("eth0", format!("{address}/24").parse()?)?;
    }
    pod.ip("ip", "link set eth0 mtu 1450")?;
    pod.ip("ip", &format!("route add default via {}", gateways[0]))?;
    pod.ip("ip", &format!("route add 10.99.0.0/16 via {}", gateways[1]))?;
    node.host.ip("sysctl", "-q net.ipv4.ip_forward=1")?;
    Ok(pod)
}

/// What the agent sets up, with other names and numbers.
fn vxlan(node: &Node, number: u8) -> Result<()> {
    let other = 3 - number;
    let mac = |number| format!("0e:99:00:00:00:{number:02x}");
    for command in [
        format!(
            "link add hand address {} mtu 1450 type vxlan id 99 dstport 8473 local 192.168.64.{number} dev eth0 nolearning",
            mac(number)
        ),
        format!("address add 10.99.{number}.0/32 dev hand"),
        "link set hand up".into(),
        format!(
            "neighbour replace 10.99.{other}.0 lladdr {} dev hand nud permanent",
            mac(other)
        ),
        format!("route replace 10.99.{other}.0/24 via 10.99.{other}.0 dev hand onlink"),
    ] {
        node.host.ip("ip", &command)?;
    }
    node.host.ip(
        "bridge",
        &format!(
            "fdb replace {} dev hand dst 192.168.64.{other} self permanent",
            mac(other)
        ),
    )?;
    Ok(())
}

/// Gigabits a second that get through.
fn send(pods: &[Bench; 2], from: Ipv4Addr, to: Ipv4Addr, duration: Duration) -> Result<f64> {
    let listener = pods[1].0.within(|| TcpListener::bind((to, 0)))??;
    let address: SocketAddr = listener.local_addr()?;
    let mut received = None;
    wait_until("the other pod", || {
        let connect = || TcpStream::connect_timeout(&address, Duration::from_secs(1));
        received = pods[0].0.within(connect)?.ok();
        Ok(received.is_some())
    })?;
    let mut sender = received.context("not connected")?;
    ensure!(
        sender.local_addr()?.ip() == IpAddr::from(from),
        "sent from another address"
    );
    let (mut receiver, _) = listener.accept()?;
    let begun = Instant::now();
    let bytes = thread::scope(|scope| -> Result<u64> {
        let counting = scope.spawn(move || {
            let mut buffer = vec![0; CHUNK];
            let mut bytes = 0;
            while let Ok(len @ 1..) = receiver.read(&mut buffer) {
                bytes += len as u64;
            }
            bytes
        });
        let chunk = vec![7; CHUNK];
        while begun.elapsed() < duration {
            sender.write_all(&chunk)?;
        }
        drop(sender);
        counting
            .join()
            .map_err(|_| anyhow::anyhow!("the receiver panicked"))
    })?;
    Ok(bytes as f64 * 8.0 / begun.elapsed().as_secs_f64() / 1e9)
}

fn last(times: &BTreeMap<IpAddr, Instant>) -> Instant {
    times.values().max().copied().unwrap_or_else(Instant::now)
}

/// Whether this is the first address after that of a subnet.
fn is_gateway_of(gateway: IpAddr, subnet: IpAddr) -> bool {
    match (gateway, subnet) {
        (IpAddr::V4(gateway), IpAddr::V4(subnet)) => u32::from(gateway) == u32::from(subnet) + 1,
        _ => false,
    }
}

/// The best and the median.
fn of(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    (times[0], times[times.len() / 2])
}

fn name(agent: &Path) -> String {
    agent
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn end(child: &mut Child) {
    if let Err(error) = child.kill().and_then(|()| child.wait().map(drop)) {
        eprintln!("process {} goes on: {error}", child.id());
    }
}
