//! The demonstration: brings a cluster up, shows that it works, and takes it down.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{self, Write},
    net::SocketAddr,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::{
    Endpoint, Host, Lab, Plan, Programs, Service, cluster::POD_PORT, ping, server, wait_until,
};

/// flannel's network configuration, as people write it into etcd.
pub const NETWORK_CONFIG: &str = include_str!("../../deploy/net-conf.json").trim_ascii();

/// The name of the lab that the demonstration makes.
pub const NAME: &str = "demo";

const NODES: u8 = 3;
const REQUESTS: usize = 300;
/// Answers without the removed endpoint after which it counts as gone.
const QUIET: usize = 200;

/// What the demonstration found, for the table at its end.
#[derive(Debug, Default)]
struct Findings(Vec<(&'static str, String)>);

/// Runs it. With `keep` the cluster stays up.
pub fn run(keep: bool, out: &mut dyn Write) -> Result<()> {
    let start = Instant::now();
    let mut findings = Findings::default();
    let mut lab = Lab::create(Plan::new(NAME, NODES)?, Programs::find()?)?;
    bring_up(&mut lab, out)?;
    findings.add(
        "three nodes, six pods up",
        format!("{:.1} s", start.elapsed().as_secs_f64()),
    );
    show_leases(&lab, out)?;
    show_subnets(&lab, &mut findings, out)?;
    show_pings(&lab, &mut findings, out)?;
    let service = show_service(&lab, &mut findings, out)?;
    show_removal(&lab, service, &mut findings, out)?;
    findings.print(out)?;
    if keep {
        lab.keep();
        print_ways_to_look_around(out)?;
    } else {
        step("Taking everything down", out)?;
        drop(lab);
        ensure!(!Lab::down(NAME)?, "something of the lab was left");
        writeln!(out, "    nothing is left")?;
    }
    Ok(())
}

/// The Service of the demonstration, in front of one pod of each node.
pub fn web_service(lab: &Lab) -> Result<Service> {
    let endpoints = lab
        .pods()
        .values()
        .filter(|pod| pod.name.starts_with("web"))
        .map(|pod| Endpoint {
            address: pod.address,
            node: pod.node.clone(),
        })
        .collect();
    Ok(Service {
        name: "web".to_owned(),
        cluster_ip: "10.97.97.97".parse()?,
        port: POD_PORT,
        endpoints,
    })
}

/// Starts etcd, an agent and a proxy on every node, and two pods on each: `webN` and `clientN`.
pub fn bring_up(lab: &mut Lab, out: &mut dyn Write) -> Result<()> {
    let nodes: Vec<_> = lab.plan().nodes().collect();
    step("Three nodes on one underlay, and etcd", out)?;
    lab.start_etcd()?;
    lab.write_network_config(NETWORK_CONFIG)?;
    writeln!(
        out,
        "    etcdctl put /coreos.com/network/config '{NETWORK_CONFIG}'"
    )?;
    step("flannel-agent and service-proxy on every node", out)?;
    for node in &nodes {
        lab.start_agent(&node.name)?;
        lab.start_proxy(&node.name)?;
    }
    lab.wait_for_overlay()?;
    step("Two pods on every node, by the CNI plugin", out)?;
    for (number, node) in (1..).zip(&nodes) {
        for kind in ["web", "client"] {
            let name = format!("{kind}{number}");
            lab.add_pod(&name, &node.name)?;
            writeln!(
                out,
                "    {name:<8} on {}  {}",
                node.name,
                lab.pod(&name)?.address
            )?;
        }
    }
    Ok(())
}

fn show_leases(lab: &Lab, out: &mut dyn Write) -> Result<()> {
    step(
        "The leases: etcdctl get --prefix /coreos.com/network/subnets",
        out,
    )?;
    let leases = lab.etcdctl(&["get", "--prefix", "/coreos.com/network/subnets"])?;
    print_indented(&leases, out)?;
    Ok(())
}

fn show_subnets(lab: &Lab, findings: &mut Findings, out: &mut dyn Write) -> Result<()> {
    step("Each node's subnet, device and routes", out)?;
    for node in lab.plan().nodes() {
        let path = node.directory.join("subnet.env");
        let file =
            std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let subnet = file
            .lines()
            .find_map(|line| line.strip_prefix("FLANNEL_SUBNET="));
        writeln!(
            out,
            "    {}  {:<15} {}",
            node.name,
            node.address.to_string(),
            subnet.unwrap_or("?")
        )?;
        let host = lab.node(&node.name)?;
        let routes = ["route", "show", "dev", "flannel.1"];
        print_indented(&host.text(Command::new("ip").args(routes))?, out)?;
    }
    findings.add(
        "subnets leased",
        format!("{}, one a node", lab.plan().nodes),
    );
    Ok(())
}

fn show_pings(lab: &Lab, findings: &mut Findings, out: &mut dyn Write) -> Result<()> {
    step("Every pod pings every pod", out)?;
    let mut answered = 0;
    let header: String = lab.pods().keys().fold(String::new(), |mut line, name| {
        // Writing to a String can't fail.
        write!(line, "{name:>9}").ok();
        line
    });
    writeln!(out, "    {:<8}{header}", "from\\to")?;
    for from in lab.pods().values() {
        let host = lab.pod_host(&from.name)?;
        write!(out, "    {:<8}", from.name)?;
        for to in lab.pods().values() {
            let ok = from.name == to.name || ping(&host, to.address)?;
            answered += usize::from(ok && from.name != to.name);
            let mark = if from.name == to.name {
                "-"
            } else if ok {
                "ok"
            } else {
                "LOST"
            };
            write!(out, "{mark:>9}")?;
        }
        writeln!(out)?;
    }
    let pairs = lab.pods().len() * (lab.pods().len() - 1);
    findings.add(
        "pods that reach each other",
        format!("{answered} of {pairs} pairs"),
    );
    ensure!(answered == pairs, "not every pod reaches every other");
    Ok(())
}

fn show_service(lab: &Lab, findings: &mut Findings, out: &mut dyn Write) -> Result<Service> {
    let service = web_service(lab)?;
    let address = SocketAddr::new(service.cluster_ip, service.port);
    let text = format!("Service {address} in front of web1, web2 and web3");
    step(&text, out)?;
    service.write(&lab.plan().manifests())?;
    let client = lab.pod_host("client1")?;
    wait_until("the Service to answer", || {
        Ok(server::ask_tcp(&client, address).is_ok())
    })?;
    for (what, host) in [("pod client1", &client), ("node node1", lab.node("node1")?)] {
        let shares = shares(host, address)?;
        writeln!(
            out,
            "    {REQUESTS} requests from {what}: {}",
            describe(&shares)
        )?;
        let total: usize = shares.values().sum();
        ensure!(
            total == REQUESTS && shares.len() == 3,
            "an endpoint got no request, or a request failed"
        );
        let row = if what.starts_with("pod") {
            "Service asked from a pod"
        } else {
            "Service asked from a node"
        };
        findings.add(
            row,
            format!("{total} of {REQUESTS} answered: {}", describe(&shares)),
        );
    }
    Ok(service)
}

fn show_removal(
    lab: &Lab,
    mut service: Service,
    findings: &mut Findings,
    out: &mut dyn Write,
) -> Result<()> {
    step("Endpoint web2 is removed while client1 goes on asking", out)?;
    let removed = lab.pod("web2")?.address;
    service
        .endpoints
        .retain(|endpoint| endpoint.address != removed);
    let address = SocketAddr::new(service.cluster_ip, service.port);
    let client = lab.pod_host("client1")?;
    let start = Instant::now();
    service.write(&lab.plan().manifests())?;
    let last = client.within(|| last_answer_of("web2", address, start))??;
    let text = match last {
        Some(after) => format!(
            "{:.1} ms after the manifest changed",
            after.as_secs_f64() * 1000.0
        ),
        None => "none after the manifest changed".to_owned(),
    };
    writeln!(out, "    last request that reached web2: {text}")?;
    findings.add("last request to a removed endpoint", text);
    Ok(())
}

/// How long after `start` the last request was sent that a server answered which has been removed.
fn last_answer_of(name: &str, to: SocketAddr, start: Instant) -> Result<Option<Duration>> {
    let (mut last, mut quiet) = (None, 0);
    while quiet < QUIET {
        let sent = start.elapsed();
        ensure!(sent < Duration::from_secs(30), "{name} still answers");
        if server::request_http(to)?.name == name {
            (last, quiet) = (Some(sent), 0);
        } else {
            quiet += 1;
        }
    }
    Ok(last)
}

fn shares(from: &Host, to: SocketAddr) -> Result<BTreeMap<String, usize>> {
    let mut shares = BTreeMap::new();
    for answer in server::ask_many(from, to, REQUESTS)? {
        *shares.entry(answer?.name).or_default() += 1;
    }
    Ok(shares)
}

fn describe(shares: &BTreeMap<String, usize>) -> String {
    let parts: Vec<_> = shares
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    parts.join(", ")
}

fn step(text: &str, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\n==> {text}")
}

fn print_indented(text: &str, out: &mut dyn Write) -> io::Result<()> {
    text.lines()
        .try_for_each(|line| writeln!(out, "    {line}"))
}

fn print_ways_to_look_around(out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "\nThe cluster stays up. To look around:\n\
         \x20   target/debug/lab status\n\
         \x20   ip netns exec tweed-{NAME}-client1 curl http://10.97.97.97\n\
         \x20   ip netns exec tweed-{NAME}-node1 nft list ruleset\n\
         \x20   ip netns exec tweed-{NAME}-node1 ip -d link show flannel.1\n\
         \x20   ip netns exec tweed-{NAME}-fabric env ETCDCTL_API=3 etcdctl --endpoints http://10.8.65.1:2379 get --prefix /coreos.com\n\
         \x20   ls /run/tweed-lab/{NAME}                     logs, manifests, CNI state\n\
         To take it down:\n\
         \x20   target/debug/lab down"
    )
}

// === impl Findings ===

impl Findings {
    fn add(&mut self, what: &'static str, result: String) {
        self.0.push((what, result));
    }

    fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "\n{:<36} result", "what")?;
        writeln!(out, "{:-<36} {:-<50}", "", "")?;
        for (what, result) in &self.0 {
            writeln!(out, "{what:<36} {result}")?;
        }
        Ok(())
    }
}
