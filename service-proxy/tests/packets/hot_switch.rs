//! Another mode in the configuration's file, in the middle of traffic: no connection is lost, neither open nor
//! new, and nothing of the old mode is left.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::symlink,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use kernel::Family;

use crate::{
    MANY, assert_served, eventually,
    external::{NODE_PORT, front},
    iptables::{BOTH, iptables},
    load::End,
    localhost::loopback,
    manifest::Service,
    names,
    network::{CLUSTER_CIDR, Network, Place},
    proxy::{Mode, Proxy},
    server::{self, Connection, Transport},
    switch::is_alone,
    web,
};

const FILE: &str = "config.conf";

/// Writes the configuration's file as `kubectl` and editors do, by way of another.
pub fn configure(network: &Network, lines: &str) {
    let path = network.manifests().join(FILE);
    let new = path.with_extension("new");
    let text = format!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n\
         clusterCIDR: {CLUSTER_CIDR}\nnodePortAddresses: [all]\n\
         iptables: {{syncPeriod: 500ms, minSyncPeriod: 0s}}\n{lines}\n"
    );
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

/// Options that have a file, and a backend for when that says iptables.
fn options(network: &Network, mode: Mode) -> Vec<String> {
    let path = network.manifests().join(FILE);
    let mut options = vec!["--config".into(), path.display().to_string()];
    if let Some(backend) = mode.backend() {
        options.push(format!("--iptables-backend={backend}"));
    }
    options
}

/// A proxy in the mode that the file says, with a backend for when that says iptables of a kind.
pub fn start(network: &Network, mode: Mode, kind: Mode) -> Proxy {
    let options = options(network, kind);
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    Proxy::start_in(mode, network, &options)
}

/// Where connections come from and go to while the mode changes.
fn ways(family: Family) -> [(Place, SocketAddr); 4] {
    let outside = Place::Outside.gateway(family);
    [
        (Place::Client, web(family).socket()),
        (Place::Node, web(family).socket()),
        (Place::Outside, SocketAddr::new(outside, NODE_PORT)),
        (Place::Node, loopback(family, NODE_PORT)),
    ]
}

/// Makes connections until the end; answers with their number.
pub fn keep_asking(network: &Network, way: (Place, SocketAddr), end: &AtomicBool) -> usize {
    let (from, to) = way;
    let ask = || {
        let mut asked = 0;
        while !end.load(Ordering::Relaxed) {
            let answer = server::ask(Transport::Tcp, to);
            answer.unwrap_or_else(|error| panic!("{from:?} to {to}: {error}"));
            asked += 1;
            thread::sleep(Duration::from_millis(2));
        }
        asked
    };
    network.namespace(from).run(ask).unwrap()
}

/// The line of the configuration that asks for a mode.
pub fn says(mode: Mode) -> String {
    format!("mode: {}", mode.name())
}

fn no_connection_is_lost_to_another_mode(family: Family, other: Mode) {
    let network = Network::new();
    network.write(&web(family));
    network.write(&Service {
        spec: "\x20 type: NodePort\n".into(),
        ..front(family, "")
    });
    configure(&network, &says(Mode::Nftables));
    let proxy = start(&network, Mode::Nftables, other);
    let ways = ways(family);
    for (from, to) in ways {
        let answered = || network.ask(from, Transport::Tcp, to).is_ok();
        eventually("an answer in the first mode", answered);
    }
    let mut open: Vec<_> = ways
        .iter()
        .map(|(from, to)| network.connect(*from, *to))
        .collect();
    let end = AtomicBool::new(false);
    let asked: usize = thread::scope(|scope| {
        let (network, end) = (&network, &end);
        let client = |way| scope.spawn(move || keep_asking(network, way, end));
        let clients = ways.map(client);
        let ending = End(end);
        for mode in [other, Mode::Nftables, other, Mode::Nftables] {
            configure(network, &says(mode));
            eventually("the other mode to be alone", || is_alone(network, mode));
            open.iter_mut().for_each(Connection::assert_echoes);
            open.extend(ways.map(|(from, to)| network.connect(from, to)));
        }
        drop(ending);
        let asked = clients.into_iter().map(|client| client.join().unwrap());
        asked.sum()
    });
    println!("{} stayed open, {asked} were made", open.len());
    assert_eq!(proxy.log().matches("takes over").count(), 4);
    assert_eq!(proxy.log().matches("first sync").count(), 1);
    assert_served(&network, Place::Client, web(family).socket(), false);
}

#[test]
fn no_connection_is_lost_to_another_mode_v4() {
    for mode in BOTH {
        no_connection_is_lost_to_another_mode(Family::V4, mode);
    }
}

#[test]
fn no_connection_is_lost_to_another_mode_v6() {
    for mode in BOTH {
        no_connection_is_lost_to_another_mode(Family::V6, mode);
    }
}

/// What a mode is told after it has taken over it follows, and so does what others do to its rules.
#[test]
fn the_new_mode_follows_and_repairs() {
    let network = Network::new();
    let mut service = web(Family::V4);
    network.write(&service);
    configure(&network, &says(Mode::Nft));
    let proxy = start(&network, Mode::Nftables, Mode::Nft);
    configure(&network, "mode: nftables\nnftables: {syncPeriod: 1h}");
    eventually("nftables mode", || is_alone(&network, Mode::Nftables));
    service.endpoints.remove(0);
    network.write(&service);
    let pods = |count| {
        let answers = || network.ask_many(Place::Client, Transport::Tcp, service.socket(), MANY);
        eventually("the endpoints", || names(&answers()).len() == count);
    };
    pods(2);
    network.nft("flush map ip tweed-proxy services");
    eventually("the repair", || proxy.log().contains("repaired"));
    pods(2);
}

/// Links to the programs of iptables.
fn link_programs(directory: &Path) {
    for family in ["iptables", "ip6tables"] {
        for name in ["", "-save", "-restore"] {
            let name = format!("{family}-nft{name}");
            symlink(Path::new("/usr/sbin").join(&name), directory.join(&name)).unwrap();
        }
    }
}

/// A mode that can't be had leaves the old one as it is, and takes over once it can.
#[test]
fn a_mode_that_can_not_be_had_is_told_of_once_and_had_later() {
    let network = Network::new();
    let mut service = web(Family::V4);
    let to = service.socket();
    network.write(&service);
    configure(&network, "mode: nftables\nnftables: {syncPeriod: 500ms}");
    let programs = tempfile::tempdir().unwrap();
    let options = options(&network, Mode::Nft);
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    let proxy = Proxy::start_beside(programs.path(), Mode::Nftables, &network, &options);
    configure(
        &network,
        "mode: iptables\nconntrack: {tcpCloseWaitTimeout: 7m}",
    );
    let told = || {
        proxy
            .log()
            .matches("mode: iptables can't take over")
            .count()
    };
    eventually("the refusal", || told() == 1);
    service.endpoints.remove(0);
    network.write(&service);
    let answers = || network.ask_many(Place::Client, Transport::Tcp, to, MANY);
    eventually("the old mode to follow", || names(&answers()).len() == 2);

    link_programs(programs.path());
    eventually("iptables", || is_alone(&network, Mode::Nft));
    assert_eq!(told(), 1, "{}", proxy.log());
    service.endpoints.remove(0);
    network.write(&service);
    eventually("the new mode to follow", || names(&answers()).len() == 1);
}

/// Keys that are of iptables mode alone are followed too.
#[test]
fn how_iptables_mode_works_changes_live() {
    for mode in BOTH {
        let network = Network::new();
        network.write(&front(Family::V4, ""));
        configure(&network, &says(mode));
        let _proxy = start(&network, mode, mode);
        let to = loopback(Family::V4, NODE_PORT);
        let answered = || network.ask(Place::Node, Transport::Tcp, to).is_ok();
        eventually("an answer on loopback", answered);
        let told = "mode: iptables\nconntrack: {tcpBeLiberal: true}";
        configure(&network, told);
        let filter = || iptables(&network, mode, "-save", "-t filter");
        eventually("no rule for what is invalid", || {
            !filter().contains("INVALID")
        });
        assert!(answered());
        // What guards the addresses that are routed stays.
        assert!(filter().contains("-A KUBE-FIREWALL"), "{}", filter());
    }
}

#[test]
fn what_guards_loopback_addresses_stays_where_they_can_not_be_closed() {
    for mode in BOTH {
        let network = Network::new();
        network.write(&front(Family::V4, ""));
        configure(&network, &says(mode));
        let mut proxy = start(&network, mode, mode);
        proxy.terminate();
        let filter = || iptables(&network, mode, "-save", "");
        assert!(filter().contains("KUBE-SVC"), "{}", filter());
        let told = Proxy::clean_up_in_container(&network);
        assert!(told.contains("route_localnet=0: Read-only"), "{told}");
        assert!(filter().contains("-A KUBE-FIREWALL"), "{}", filter());
        assert!(!filter().contains("KUBE-SVC"), "{}", filter());
        assert!(Proxy::clean_up(&network).success());
        assert!(!filter().contains("KUBE-"), "{}", filter());
    }
}
