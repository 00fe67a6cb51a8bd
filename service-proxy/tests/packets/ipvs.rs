//! IPVS mode where it differs from nftables: what people see, what chooses endpoints, how they are drained, and who
//! else has virtual servers. Without IPVS in the kernel, what takes its place.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{IpAddr, SocketAddr},
};

use kernel::{
    Family,
    ipvs::{Handle, ObservedReal, Protocol, VirtualAddress},
};

use crate::{
    MANY, assert_served, eventually,
    external::{NODE_PORT, front},
    http,
    iptables::{self, BOTH},
    manifest::{self, Listed, Service},
    network::{CLUSTER_CIDR, Network, PODS, Place},
    proxy::{Mode, Proxy},
    server::{Answer, Connection, Transport},
    switch::{INTERFACE, has_ipvs},
    web,
};

/// All schedulers of Linux 6.1.
const SCHEDULERS: [&str; 13] = [
    "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "mh", "sed", "nq", "fo", "ovf",
];

/// A network whose kernel has IPVS, if this one has.
fn network() -> Option<Network> {
    let network = Network::new();
    let found = has_ipvs(&network);
    if !found {
        println!("skipped: IPVS is not in this kernel");
    }
    found.then_some(network)
}

fn start(network: &Network, options: &[&str]) -> Proxy {
    let options = [&["--cluster-cidr", CLUSTER_CIDR][..], options].concat();
    Proxy::start_in(Mode::Ipvs, network, &options)
}

/// Runs ipvsadm on the node and answers with what it prints.
pub fn ipvsadm(network: &Network, arguments: &str) -> String {
    network.run("ipvsadm", arguments.split_whitespace())
}

/// The real servers of a virtual one as the kernel has them now.
fn reals(
    network: &Network,
    protocol: Protocol,
    socket: SocketAddr,
) -> BTreeMap<SocketAddr, ObservedReal> {
    let mut handle = Handle::open_in(network.namespace(Place::Node)).unwrap();
    let address = VirtualAddress { protocol, socket };
    let reals = handle.real_servers(&address).unwrap();
    reals.into_iter().map(|it| (it.server.socket, it)).collect()
}

fn socket(pod: Place, family: Family) -> SocketAddr {
    SocketAddr::new(pod.address(family), crate::server::PORT)
}

/// Whether the interface of the mode has an address.
fn is_bound(network: &Network, address: IpAddr) -> bool {
    let listing = network.run("ip", ["-oneline", "address", "show", "dev", INTERFACE]);
    let prefix = if address.is_ipv4() { 32 } else { 128 };
    listing.contains(&format!(" {address}/{prefix} "))
}

/// What the articles show: a virtual server for each port, with real servers by masquerading, and its address (S4, S13).
#[test]
fn people_see_what_they_know() {
    let Some(network) = network() else { return };
    let address = IpAddr::from([10, 97, 97, 97]);
    let pods = PODS.map(|pod| Listed::ready(pod, Family::V4));
    let mut service = Service::new("nginx", address, pods);
    network.write(&service);
    let _proxy = start(&network, &[]);
    let listing = ipvsadm(&network, "-Ln");
    let lines: Vec<Vec<_>> = listing
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let head = ["TCP", "10.97.97.97:80", "rr"];
    let at = lines.iter().position(|line| *line == head);
    let at = at.unwrap_or_else(|| panic!("{listing}"));
    let reals: BTreeSet<_> = lines[at + 1..at + 4]
        .iter()
        .map(|it| it[..4].to_vec())
        .collect();
    let expected = PODS.map(|pod| socket(pod, Family::V4).to_string());
    let expected = expected.iter().map(|it| vec!["->", it, "Masq", "1"]);
    assert_eq!(reals, expected.collect(), "{listing}");
    assert!(is_bound(&network, address));

    service.cluster_ip = [10, 97, 97, 98].into();
    network.write(&service);
    eventually("the other address", || {
        is_bound(&network, service.cluster_ip)
    });
    eventually("the first one to go", || !is_bound(&network, address));
    assert!(!ipvsadm(&network, "-Ln").contains("10.97.97.97"));
}

/// Every scheduler is set and read back, one after the other on the same virtual server (S14).
#[test]
fn every_scheduler_can_be_had() {
    let Some(network) = network() else { return };
    let service = web(Family::V4);
    network.write(&service);
    for scheduler in SCHEDULERS {
        let option = format!("--ipvs-scheduler={scheduler}");
        let _proxy = start(&network, &[&option]);
        let listing = ipvsadm(&network, "-Ln");
        for protocol in ["TCP  ", "UDP  "] {
            let head = format!("{protocol}{} {scheduler}", service.socket());
            assert!(listing.contains(&head), "no {head} in {listing}");
        }
        let answer = network.ask(Place::Client, Transport::Tcp, service.socket());
        assert!(answer.is_ok(), "{scheduler}: {answer:?}");
    }
    let said = Proxy::fail_in(Mode::Ipvs, &network, &["--ipvs-scheduler=fair"]);
    assert!(
        said.contains("fair") && said.contains("scheduler"),
        "{said}"
    );
}

/// How many connections each endpoint has got.
fn spread(answers: &[Answer]) -> BTreeMap<&str, usize> {
    let mut spread = BTreeMap::new();
    for answer in answers {
        *spread.entry(answer.name.as_str()).or_default() += 1;
    }
    spread
}

/// A proxy with a scheduler, and what a client's connections come to.
fn spread_by(scheduler: &str) -> Option<Vec<usize>> {
    let network = network()?;
    let service = web(Family::V4);
    network.write(&service);
    let _proxy = start(&network, &[&format!("--ipvs-scheduler={scheduler}")]);
    let answers = network.ask_many(Place::Client, Transport::Tcp, service.socket(), MANY);
    Some(spread(&answers).into_values().collect())
}

#[test]
fn rr_and_wrr_take_turns() {
    for scheduler in ["rr", "wrr"] {
        let spread = spread_by(scheduler);
        let holds = spread.as_ref().is_none_or(|it| *it == [MANY / 3; 3]);
        assert!(holds, "{scheduler}: {spread:?}");
    }
}

/// By the client's address, or by the one that it connects to; or, with `mh` as kube-proxy has it, by the client's
/// port too.
#[test]
fn hashing_keeps_to_an_endpoint() {
    for (scheduler, endpoints) in [("sh", 1), ("dh", 1), ("mh", 3)] {
        let spread = spread_by(scheduler);
        let holds = spread.as_ref().is_none_or(|it| it.len() == endpoints);
        assert!(holds, "{scheduler}: {spread:?}");
    }
}

/// Opens connections and groups them by who answers.
fn open(network: &Network, to: SocketAddr, number: usize) -> BTreeMap<String, Vec<Connection>> {
    let mut open: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for _ in 0..number {
        let mut connection = network.connect(Place::Client, to);
        let name = connection.exchange().unwrap().name;
        open.entry(name).or_default().push(connection);
    }
    open
}

/// Who has the fewest connections gets the next: all of them, until it has as many as the others.
#[test]
fn lc_prefers_who_has_least() {
    for scheduler in ["lc", "wlc"] {
        let Some(network) = network() else { return };
        let service = web(Family::V4);
        network.write(&service);
        let _proxy = start(&network, &[&format!("--ipvs-scheduler={scheduler}")]);
        let mut held = open(&network, service.socket(), 9);
        let counts: Vec<_> = held.values().map(Vec::len).collect();
        assert_eq!(counts, [3; 3], "{scheduler}");
        held.remove("pod2");
        let ended = || {
            let reals = reals(&network, Protocol::Tcp, service.socket());
            reals[&socket(Place::Pod2, Family::V4)].active == 0
        };
        eventually("the connections to end", ended);
        let next = open(&network, service.socket(), 2);
        let next: Vec<_> = next.keys().collect();
        assert_eq!(next, ["pod2"], "{scheduler}");
    }
}

/// An endpoint that goes keeps its connections and gets no new ones, until it is back or its last one ends.
fn an_endpoint_is_drained(family: Family) {
    let Some(network) = network() else { return };
    let mut service = web(family);
    network.write(&service);
    let to = service.socket();
    let _proxy = start(&network, &[]);
    let mut held = open(&network, to, 3).remove("pod1").unwrap();
    let pod = socket(Place::Pod1, family);
    let weight = |protocol| {
        reals(&network, protocol, to)
            .get(&pod)
            .map(|it| it.server.weight)
    };
    let pods = || names_of_new(&network, to);

    let gone = service.endpoints.remove(0);
    network.write(&service);
    eventually("the endpoint to be drained", || {
        weight(Protocol::Tcp) == Some(0)
    });
    eventually("datagrams to go elsewhere", || {
        weight(Protocol::Udp).is_none()
    });
    assert_eq!(pods(), BTreeSet::from(["pod2".into(), "pod3".into()]));
    held[0].assert_echoes();

    service.endpoints.push(gone);
    network.write(&service);
    let is_back = || [Protocol::Tcp, Protocol::Udp].map(weight) == [Some(1); 2];
    eventually("the endpoint to be back", is_back);
    assert_eq!(pods().len(), 3);
    held[0].assert_echoes();

    service.endpoints.pop();
    network.write(&service);
    eventually("the endpoint to be drained", || {
        weight(Protocol::Tcp) == Some(0)
    });
    held[0].assert_echoes();
    held.pop().unwrap().reset();
    eventually("the endpoint to go", || weight(Protocol::Tcp).is_none());
}

/// Who answers new connections. They are reset, because the kernel remembers one that has ended well for two
/// minutes.
fn names_of_new(network: &Network, to: SocketAddr) -> BTreeSet<String> {
    let open = open(network, to, MANY);
    let (names, held): (_, Vec<_>) = open.into_iter().unzip();
    held.into_iter().flatten().for_each(Connection::reset);
    names
}

#[test]
fn an_endpoint_is_drained_v4() {
    an_endpoint_is_drained(Family::V4);
}

#[test]
fn an_endpoint_is_drained_v6() {
    an_endpoint_is_drained(Family::V6);
}

/// Nobody waits for ever where a time is given.
#[test]
fn draining_has_an_end() {
    let Some(network) = network() else { return };
    let mut service = web(Family::V4);
    network.write(&service);
    let to = service.socket();
    let _proxy = start(&network, &["--ipvs-drain-timeout=3s"]);
    let _held = open(&network, to, 3);
    service.endpoints.remove(0);
    network.write(&service);
    let pod = socket(Place::Pod1, Family::V4);
    eventually("the endpoint to go", || {
        !reals(&network, Protocol::Tcp, to).contains_key(&pod)
    });
}

/// Virtual servers that others have made stay, whatever happens to ours.
#[test]
fn others_are_left_alone() {
    let Some(network) = network() else { return };
    let mut service = web(Family::V4);
    network.write(&service);
    let to = service.socket();
    let foreign = ["192.0.2.1:81", "10.98.0.1:80"];
    for address in foreign {
        ipvsadm(&network, &format!("-A -t {address} -s wlc"));
        ipvsadm(&network, &format!("-a -t {address} -r 10.9.9.9:80 -m -w 7"));
    }
    let assert_there = |when: &str| {
        let listing = ipvsadm(&network, "-Ln");
        for address in foreign {
            assert!(
                listing.contains(&format!("TCP  {address} wlc")),
                "{when}: {listing}"
            );
        }
        assert_eq!(
            listing.matches("10.9.9.9:80").count(),
            foreign.len(),
            "{when}: {listing}"
        );
    };
    let mut proxy = start(&network, &["--ipvs-exclude-cidrs=10.98.0.0/16"]);
    assert_served(&network, Place::Client, to, false);
    assert_there("after the start");

    // What is ours is put back.
    ipvsadm(&network, &format!("-D -t {to}"));
    let all = || reals(&network, Protocol::Tcp, to).len() == 3;
    eventually("the repair", all);
    assert_there("after a repair");
    service.endpoints.pop();
    network.write(&service);
    eventually("the change", || !all());
    assert_there("after a change");

    proxy.terminate();
    assert_eq!(names_of_new(&network, to).len(), 2);
    assert!(Proxy::clean_up(&network).success());
    assert_there("after the end");
    let listing = ipvsadm(&network, "-Ln");
    assert!(!listing.contains(&to.to_string()), "{listing}");
    assert!(network.interface(INTERFACE).is_none());
    assert!(!network.nft("list tables").contains("tweed"));
    assert!(Proxy::clean_up(&network).success());
}

/// A proxy that was killed takes away what went in the meantime.
#[test]
fn a_killed_proxy_takes_over_what_stands() {
    let Some(network) = network() else { return };
    let service = web(Family::V4);
    network.write(&service);
    let mut proxy = start(&network, &[]);
    let mut held = network.connect(Place::Client, service.socket());
    proxy.kill();
    assert_served(&network, Place::Client, service.socket(), false);
    let restarted = start(&network, &[]);
    let unchanged = "first sync: 0 elements added, 0 deleted, 0 other commands;";
    assert!(restarted.log().contains(unchanged), "{}", restarted.log());
    held.assert_echoes();
    drop(restarted);

    fs::remove_file(network.manifests().join("web.yaml")).unwrap();
    let address = manifest::cluster_ip(Family::V4, 11);
    let other = Service::new("other", address, service.endpoints.clone());
    network.write(&other);
    let _proxy = start(&network, &["--ipvs-drain-timeout=1s"]);
    assert_served(&network, Place::Client, other.socket(), false);
    eventually("the address to go", || {
        !is_bound(&network, service.cluster_ip)
    });
}

/// Runs a line that `diff` has printed, on the node.
fn obey(network: &Network, line: &str) {
    let words: Vec<_> = line.split_whitespace().collect();
    if !["ipvsadm", "ip"].contains(&words[0]) {
        network.nft(line);
        return;
    }
    network.run(words[0], words[1..].iter().copied());
}

/// What is missing is told and left as it is, in words that put it right.
#[test]
fn differences_are_commands_and_explanations_name_servers() {
    let Some(network) = network() else { return };
    let service = web(Family::V4);
    network.write(&service);
    let to = service.socket();
    let inspect = |arguments: &[&str]| {
        let options = ["--cluster-cidr", CLUSTER_CIDR];
        let output = Proxy::inspect_in(Mode::Ipvs, &network, &[arguments, &options].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.is_empty(), "{said}");
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    let nothing = (Some(0), String::new());
    let mut proxy = start(&network, &[]);
    proxy.terminate();
    assert_eq!(inspect(&["diff"]), nothing);
    let udp = format!("-u {to}");
    let pod = socket(Place::Pod1, Family::V4);
    let ip = service.cluster_ip;
    network.nft(&format!(
        "delete element ip tweed-ipvs cluster-ips {{ {ip} }}"
    ));
    for damage in [
        format!("ipvsadm -d -t {to} -r {pod}"),
        format!("ipvsadm -D {udp}"),
        format!("ip address delete {ip}/32 dev {INTERFACE}"),
    ] {
        obey(&network, &damage);
    }
    let (code, told) = inspect(&["diff"]);
    assert_eq!(code, Some(1));
    let reals = PODS.map(|it| format!("ipvsadm -a {udp} -r {} -m -w 1", socket(it, Family::V4)));
    let mut expected = vec![
        format!("add element ip tweed-ipvs cluster-ips {{ {ip} }}"),
        format!("ipvsadm -a -t {to} -r {pod} -m -w 1"),
        format!("ipvsadm -A {udp} -s rr"),
    ];
    expected.extend(reals);
    expected.push(format!("ip address add {ip}/32 dev {INTERFACE}"));
    assert_eq!(told.lines().collect::<Vec<_>>(), expected);
    assert_eq!(inspect(&["diff"]).1, told);

    let (_, told) = inspect(&["explain", "192.0.2.2", &to.to_string()]);
    let kernel: BTreeSet<_> = told
        .lines()
        .filter_map(|line| line.strip_prefix("kernel      "))
        .collect();
    let other = socket(Place::Pod2, Family::V4);
    for line in [
        format!("ipvsadm -A -t {to} -s rr"),
        format!("MISSING: ipvsadm -a -t {to} -r {pod} -m -w 1"),
        format!("ipvsadm -a -t {to} -r {other} -m -w 1"),
        format!("MISSING: ip address add {ip}/32 dev {INTERFACE}"),
    ] {
        assert!(kernel.contains(line.as_str()), "{line}:\n{told}");
    }
    expected.iter().for_each(|line| obey(&network, line));
    assert_eq!(inspect(&["diff"]), nothing);
    assert_served(&network, Place::Client, to, false);

    // A kernel with nothing at all.
    assert!(Proxy::clean_up(&network).success());
    let (code, told) = inspect(&["diff"]);
    assert_eq!(code, Some(1));
    let made = format!("ip link add {INTERFACE} type dummy");
    assert!(told.lines().any(|line| line == made), "{told}");
}

/// How often the proxy has made the kernel follow, or looked whether it does, family by family.
fn syncs(network: &Network) -> u32 {
    let metrics = SocketAddr::from(([127, 0, 0, 1], 10249));
    let told = http::get(network, Place::Node, metrics, "/metrics").unwrap();
    let name = "kubeproxy_sync_proxy_rules_duration_seconds_count";
    let counts = told.body.lines().filter(|line| line.starts_with(name));
    counts
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u32>().unwrap())
        .sum()
}

/// What pods bring along does not have everything read; an address for NodePorts does, and is served.
#[test]
fn addresses_of_pods_are_no_news() {
    let Some(network) = network() else { return };
    network.write(&Service {
        spec: "\x20 type: NodePort\n".into(),
        ..front(Family::V4, "")
    });
    let _proxy = start(&network, &["--sync-period", "1h"]);
    // The first sync, and what has happened since it.
    eventually("the start", || syncs(&network) >= 4);
    let before = syncs(&network);
    let address = |verb, address, interface| {
        obey(
            &network,
            &format!("ip address {verb} {address} dev {interface}"),
        );
    };
    let gateway = format!("{}/32", Place::Pod1.gateway(Family::V4));
    for verb in ["add", "delete"] {
        address(verb, "fe80::77/64", "pod2");
        address(verb, &gateway, "pod2");
        address(verb, "127.0.0.77/8", "lo");
    }
    // Twice as long as the proxy pauses between two looks.
    std::thread::sleep(std::time::Duration::from_millis(700));
    assert_eq!(syncs(&network), before);
    address("add", "192.0.2.77/24", "outside");
    let served = SocketAddr::from(([192, 0, 2, 77], NODE_PORT));
    eventually("the NodePort there", || {
        !reals(&network, Protocol::Tcp, served).is_empty()
    });
}

/// Without IPVS, iptables takes its place and one warning says so; whoever is strict about it is refused (S15).
#[test]
fn a_kernel_without_it_gets_iptables_or_refuses() {
    let network = Network::new();
    if has_ipvs(&network) {
        println!("skipped: IPVS is in this kernel");
        return;
    }
    let service = web(Family::V4);
    network.write(&service);
    let proxy = start(&network, &[]);
    assert_served(&network, Place::Client, service.socket(), false);
    let log = proxy.log();
    let warned = |line: &&str| line.contains("WARN") && line.contains("IPVS");
    assert_eq!(log.lines().filter(warned).count(), 1, "{log}");
    let chains = BOTH
        .map(|mode| iptables::iptables(&network, mode, "-save", ""))
        .concat();
    assert!(chains.contains("KUBE-SERVICES"), "{log}");
    let said = Proxy::fail_in(Mode::Ipvs, &network, &["--strict"]);
    assert!(said.contains("IPVS is not in this kernel"), "{said}");
}
