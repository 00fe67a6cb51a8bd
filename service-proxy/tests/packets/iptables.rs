//! iptables mode where it differs from nftables: what people see, who else writes there, and changes of mode.

use std::{
    collections::BTreeSet,
    fs::File,
    io::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::{Command, Output, Stdio},
    time::Duration,
};

use kernel::{Family, accounting::Handle as Accounting, sysctl};

use crate::{
    MANY, all_pods, assert_served, eventually,
    external::front,
    health::{METRICS, get},
    names,
    network::{CLUSTER_CIDR, Network, Place},
    proxy::{Mode, Proxy},
    server::Transport,
    web,
};

pub const BOTH: [Mode; 2] = [Mode::Nft, Mode::Legacy];
/// What kubelet makes when it starts (its `syncIPTablesRules`).
const OF_KUBELET: &str = "*mangle\n:KUBE-IPTABLES-HINT - [0:0]\n:KUBE-KUBELET-CANARY - [0:0]\nCOMMIT
*filter\n:KUBE-FIREWALL - [0:0]
-A INPUT -j KUBE-FIREWALL\n-A OUTPUT -j KUBE-FIREWALL
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment \"block incoming localnet connections\" \
 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP\nCOMMIT\n";
const ROUTE_LOCALNET: &str = "net/ipv4/conf/all/route_localnet";
const UNCHANGED: &str = "first sync: 0 chains written, 0 removed, 0 jumps";

fn start(mode: Mode, network: &Network, options: &[&str]) -> Proxy {
    let options = [&["--cluster-cidr", CLUSTER_CIDR][..], options].concat();
    Proxy::start_in(mode, network, &options)
}

/// Runs iptables on the node, of the kind of a mode, and answers with what it prints.
pub fn iptables(network: &Network, mode: Mode, what: &str, arguments: &str) -> String {
    let program = format!("iptables-{}{what}", mode.backend().unwrap());
    network.run(&program, arguments.split_whitespace())
}

/// Empties a table at once.
fn flush(network: &Network, mode: Mode, table: &str) {
    restore(network, mode, &format!("*{table}\nCOMMIT\n"));
}

/// Writes tables: nothing else is left in them.
fn restore(network: &Network, mode: Mode, text: &str) {
    let program = format!("iptables-{}-restore", mode.backend().unwrap());
    let run = || {
        let mut child = Command::new(&program)
            .arg("--wait")
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
        drop(stdin);
        child.wait().unwrap()
    };
    assert!(network.namespace(Place::Node).run(run).unwrap().success());
}

/// The chain that the first rule of a listing with some word leads to.
fn target<'a>(listing: &'a str, word: &str) -> &'a str {
    let line = listing.lines().find(|line| line.contains(word));
    let line = line.unwrap_or_else(|| panic!("no {word} in {listing}"));
    line.split_whitespace().nth(2).unwrap()
}

/// What the articles show: the Service, a third, a half and the rest, and the translation (S10).
#[test]
fn people_see_what_they_know() {
    for mode in BOTH {
        let network = Network::new();
        network.write(&web(Family::V4));
        let _proxy = start(mode, &network, &[]);
        let to = web(Family::V4).socket();
        network.ask_many(Place::Client, Transport::Tcp, to, 3);
        let list = |chain: &str| iptables(&network, mode, "", &format!("-nvL {chain} -t nat"));
        let services = list("KUBE-SERVICES");
        let service = target(&services, "cluster IP */ tcp dpt:80");
        assert!(service.starts_with("KUBE-SVC-"), "{services}");
        let endpoints = list(service);
        for share in ["probability 0.33333333349", "probability 0.50000000000"] {
            assert!(endpoints.contains(share), "{endpoints}");
        }
        let endpoint = list(target(&endpoints, "KUBE-SEP-"));
        assert!(endpoint.contains("DNAT"), "{endpoint}");
        assert!(endpoint.contains("to:10.244."), "{endpoint}");
        let mark = list("KUBE-MARK-MASQ");
        assert!(mark.contains("MARK or 0x4000"), "{mark}");
    }
}

#[test]
fn the_classic_layout_serves_too_and_the_other_takes_over() {
    for mode in BOTH {
        let network = Network::new();
        network.write(&web(Family::V4));
        let to = web(Family::V4).socket();
        let mut proxy = start(mode, &network, &["--iptables-dispatch=flat"]);
        assert_served(&network, Place::Outside, to, true);
        assert_served(&network, Place::Pod1, to, false);
        let mut open = network.connect(Place::Client, to);
        proxy.kill();
        let mut proxy = start(mode, &network, &["--iptables-dispatch=flat"]);
        assert!(proxy.log().contains(UNCHANGED), "{}", proxy.log());
        proxy.terminate();
        let mut proxy = start(mode, &network, &["--iptables-dispatch=tree"]);
        assert!(!proxy.log().contains(UNCHANGED), "{}", proxy.log());
        assert_served(&network, Place::Outside, to, true);
        proxy.kill();
        let proxy = start(mode, &network, &[]);
        assert!(proxy.log().contains(UNCHANGED), "{}", proxy.log());
        open.assert_echoes();
    }
}

#[test]
fn a_flush_is_noticed_and_others_are_left_alone() {
    for mode in BOTH {
        let network = Network::new();
        network.write(&web(Family::V4));
        let to = web(Family::V4).socket();
        let run = |arguments: &str| iptables(&network, mode, "", arguments);
        run("-t nat -N THEIRS");
        run("-t nat -A POSTROUTING -s 10.9.0.0/16 -j THEIRS");
        run("-t mangle -N KUBE-OTHERS");
        let mut proxy = start(mode, &network, &[]);
        for table in ["nat", "filter", "mangle"] {
            let repaired = proxy.log().matches("repaired").count();
            flush(&network, mode, table);
            eventually(table, || proxy.log().matches("repaired").count() > repaired);
            run("-t mangle -S KUBE-PROXY-CANARY");
            assert_served(&network, Place::Client, to, false);
        }
        run("-t nat -N THEIRS");
        run("-t nat -A POSTROUTING -s 10.9.0.0/16 -j THEIRS");
        run("-t mangle -N KUBE-OTHERS");
        proxy.terminate();
        assert_served(&network, Place::Client, to, false);
        assert!(Proxy::clean_up(&network).success());
        let left = iptables(&network, mode, "-save", "");
        let foreign = ["-A POSTROUTING -s 10.9.0.0/16 -j THEIRS"];
        let rules: Vec<_> = left.lines().filter(|line| line.starts_with('-')).collect();
        assert_eq!(rules, foreign, "{left}");
        let chains: Vec<_> = left
            .lines()
            .filter(|line| line.starts_with(":KUBE"))
            .collect();
        assert_eq!(chains, [":KUBE-OTHERS - [0:0]"], "{left}");
        assert!(Proxy::clean_up(&network).success());
    }
}

/// Kubelet makes its rules when it starts, and not again while its own chains are there.
#[test]
fn what_kubelet_guards_stays() {
    for mode in BOTH {
        let network = Network::new();
        network.write(&web(Family::V4));
        restore(&network, mode, OF_KUBELET);
        let of_kubelet = || {
            let saved = iptables(&network, mode, "-save", "");
            let chains = saved.lines().filter(|line| line.contains("KUBE-"));
            let chains = chains.map(|line| line.split(" [").next().unwrap().to_owned());
            chains.collect::<BTreeSet<_>>()
        };
        let made = of_kubelet();
        let node = network.namespace(Place::Node);
        let routed = || node.run(|| sysctl::get(ROUTE_LOCALNET)).unwrap().unwrap();
        let mut proxy = Proxy::start(&network);
        assert_eq!((of_kubelet(), &*routed()), (made.clone(), "0"));
        proxy.terminate();
        let mut proxy = start(mode, &network, &[]);
        assert!(of_kubelet().len() > made.len());
        proxy.terminate();
        assert!(Proxy::clean_up(&network).success());
        assert_eq!((of_kubelet(), &*routed()), (made, "1"));
    }
}

/// A rule that is deleted, without the canary.
#[test]
fn drift_is_repaired() {
    for mode in BOTH {
        let network = Network::new();
        network.write(&web(Family::V4));
        let proxy = start(mode, &network, &[]);
        iptables(&network, mode, "", "-t nat -F KUBE-SERVICES");
        eventually("the repair", || proxy.log().contains("repaired"));
        let to = web(Family::V4).socket();
        assert_served(&network, Place::Client, to, false);
    }
}

/// What differs is told as iptables-restore would take it, and what a packet meets by its chains.
#[test]
fn what_stands_is_told_by_chains() {
    for mode in BOTH {
        let network = Network::new();
        network.write(&web(Family::V4));
        let mut proxy = start(mode, &network, &[]);
        // What is missing must stay missing.
        proxy.terminate();
        let inspect = |arguments: &[&str]| {
            let options = ["--cluster-cidr", CLUSTER_CIDR];
            Proxy::inspect_in(mode, &network, &[arguments, &options].concat())
        };
        let text = |output: &Output| String::from_utf8(output.stdout.clone()).unwrap();
        let same = inspect(&["diff"]);
        assert_eq!((same.status.code(), text(&same)), (Some(0), String::new()));
        let to = web(Family::V4).socket().to_string();
        let explained = text(&inspect(&["explain", "192.0.2.2", &to]));
        let lines: Vec<_> = explained
            .lines()
            .filter_map(|line| line.strip_prefix("kernel      iptables -t nat -A "))
            .collect();
        assert!(lines[0].starts_with("KUBE-SERVICES "), "{explained}");
        for expected in ["KUBE-SVC-", "-j KUBE-MARK-MASQ", "KUBE-SEP-", "-j DNAT"] {
            let found = lines.iter().any(|line| line.contains(expected));
            assert!(found, "{expected}: {explained}");
        }
        assert!(!explained.contains("MISSING"), "{explained}");
        iptables(&network, mode, "", "-t nat -F KUBE-SERVICES");
        let differs = inspect(&["diff"]);
        assert_eq!(differs.status.code(), Some(1));
        let changes = text(&differs);
        assert!(changes.starts_with("# IPv4, iptables"), "{changes}");
        assert!(
            changes.contains("\n*nat\n:KUBE-SERVICES - [0:0]\n"),
            "{changes}"
        );
        assert_eq!(changes.matches('*').count(), 1, "{changes}");
        let explained = text(&inspect(&["explain", "192.0.2.2", &to]));
        assert_eq!(explained.matches("MISSING").count(), 1, "{explained}");
    }
}

/// Who holds the lock of the legacy tables is waited for; those of nf_tables have none.
#[test]
fn the_lock_of_the_tables_is_waited_for() {
    for mode in BOTH {
        let network = Network::new();
        network.write(&web(Family::V4));
        let proxy = start(mode, &network, &[]);
        let lock = File::create("/run/xtables.lock").unwrap();
        lock.lock().unwrap();
        network.write(&front(Family::V4, ""));
        let followed = || proxy.log().contains("1 Services changed: ");
        match mode {
            Mode::Nft => eventually("the change", followed),
            _ => {
                // As long as it would take without the lock, many times over.
                std::thread::sleep(Duration::from_millis(500));
                assert!(!followed());
            }
        }
        lock.unlock().unwrap();
        eventually("the change", followed);
        assert_served(
            &network,
            Place::Client,
            front(Family::V4, "").socket(),
            false,
        );
    }
}

/// What is counted under kube-proxy's names.
#[test]
fn rules_and_failures_are_counted() {
    for mode in BOTH {
        let network = Network::new();
        network.write(&web(Family::V4));
        let _proxy = start(mode, &network, &[]);
        let metrics = get(&network, METRICS, "/metrics").body;
        for line in [
            "sync_proxy_rules_iptables_restore_failures_total{ip_family=\"IPv4\"} 0",
            "sync_proxy_rules_iptables_partial_restore_failures_total{ip_family=\"IPv6\"} 0",
            "iptables_ct_state_invalid_dropped_packets_total 0",
            "iptables_localhost_nodeports_accepted_packets_total 0",
        ] {
            let found = metrics.lines().any(|it| it == format!("kubeproxy_{line}"));
            assert!(found, "{line}: {metrics}");
        }
        let saved = iptables(&network, mode, "-save", "-t nat");
        let rules = saved.lines().filter(|line| line.starts_with('-')).count();
        for what in ["total", "last"] {
            let line = format!(
                "kubeproxy_sync_proxy_rules_iptables_{what}{{ip_family=\"IPv4\",table=\"nat\"}} {rules}"
            );
            assert!(metrics.lines().any(|it| it == line), "{line}: {metrics}");
        }
    }
}

/// Objects that no rule counts in can be removed by others; what counts in them comes all the same.
#[test]
fn accounting_objects_that_are_removed_come_back() {
    for mode in BOTH {
        let network = Network::new();
        network.write(&web(Family::V4));
        let proxy = start(mode, &network, &[]);
        let object = "localhost_nps_accepted_pkts";
        let on_node = |work: fn(&mut Accounting, &str) -> kernel::Result<bool>| {
            let run = || work(&mut Accounting::open().unwrap(), object).unwrap();
            network.namespace(Place::Node).run(run).unwrap()
        };
        let counted = |kernel: &mut Accounting, object: &str| Ok(kernel.packets(object)?.is_some());
        assert!(on_node(Accounting::remove));
        eventually("the object", || on_node(counted));

        on_node(Accounting::remove);
        let service = front(Family::V4, "");
        network.write(&service);
        let home = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), service.node_port.unwrap());
        eventually("the NodePort", || {
            network.ask(Place::Node, Transport::Tcp, home).is_ok()
        });
        assert!(on_node(counted));
        assert!(!proxy.log().contains("everything is compared"));
    }
}

/// NodePorts on the loopback address, and nothing else on it for neighbours (F17).
#[test]
fn the_node_reaches_node_ports_at_home() {
    for mode in BOTH {
        let network = Network::new();
        let service = front(Family::V4, "");
        network.write(&service);
        let to =
            |address: Ipv4Addr| SocketAddr::new(IpAddr::V4(address), service.node_port.unwrap());
        let home = to(Ipv4Addr::LOCALHOST);
        let mut proxy = start(mode, &network, &[]);
        let answers = network.ask_many(Place::Node, Transport::Tcp, home, MANY);
        assert_eq!(names(&answers), all_pods());
        proxy.terminate();
        let _proxy = start(mode, &network, &["--iptables-localhost-nodeports=false"]);
        let refused = network.ask(Place::Node, Transport::Tcp, home).is_err();
        assert!(refused);
    }
}
