//! What kube-proxy's IPVS mode has left, as far as only its ipsets tell: it goes, in whatever mode, and nothing else.

use kernel::Family;

use crate::{
    eventually,
    iptables::{BOTH, iptables},
    ipvs::ipvsadm,
    network::{CLUSTER_CIDR, Network, Place},
    proxy::{Mode, Proxy},
    switch::has_ipvs,
    web,
};

/// A NodePort of kube-proxy's.
const NODE_PORT: u16 = 30999;
/// Sets that are not kube-proxy's: one has a name that could be, one a name that is, but not of its type.
const FOREIGN: [&str; 2] = ["KUBE-OTHER", "KUBE-CLUSTER-IP"];

/// Runs ipset on the node and answers with what it prints.
pub fn ipset(network: &Network, arguments: &str) -> String {
    network.run("ipset", arguments.split_whitespace())
}

/// The virtual servers of a NodePort of kube-proxy's and of a stranger.
fn servers() -> [String; 2] {
    let node = Place::Client.gateway(Family::V4);
    [NODE_PORT, 8443].map(|port| format!("{node}:{port}"))
}

/// As kube-proxy leaves it, with a foreign set and virtual server beside.
fn leave(network: &Network, backend: Mode) {
    ipset(
        network,
        "create KUBE-NODE-PORT-TCP bitmap:port range 0-65535",
    );
    ipset(network, &format!("add KUBE-NODE-PORT-TCP {NODE_PORT}"));
    ipset(
        network,
        "create KUBE-6-LOAD-BALANCER-SOURCE-CID hash:ip,port,net family inet6",
    );
    let jump = "-p tcp -m set --match-set KUBE-NODE-PORT-TCP dst -j RETURN";
    iptables(network, backend, "", "-t nat -N KUBE-NODE-PORT");
    iptables(
        network,
        backend,
        "",
        &format!("-t nat -A KUBE-NODE-PORT {jump}"),
    );
    iptables(
        network,
        backend,
        "",
        "-t nat -A PREROUTING -j KUBE-NODE-PORT",
    );
    for name in FOREIGN {
        ipset(network, &format!("create -exist {name} hash:ip"));
    }
    for server in servers().iter().filter(|_| has_ipvs(network)) {
        ipvsadm(network, &format!("-A -t {server} -s rr"));
    }
}

/// Whether nothing is left but what is a stranger's.
fn is_gone(network: &Network) -> bool {
    let sets = ipset(network, "list -name");
    let sets: Vec<_> = sets.lines().collect();
    let [former, stranger] = servers();
    let servers_are_right = !has_ipvs(network) || {
        let listing = ipvsadm(network, "-Ln");
        assert!(listing.contains(&stranger), "{listing}");
        !listing.contains(&former)
    };
    servers_are_right && sets.len() == FOREIGN.len() && FOREIGN.iter().all(|it| sets.contains(it))
}

fn forget_stranger(network: &Network) {
    if has_ipvs(network) {
        ipvsadm(network, "-C");
    }
}

#[test]
fn every_mode_removes_what_kube_proxys_sets_name() {
    let network = Network::new();
    network.write(&web(Family::V4));
    let modes = [Mode::Nftables, Mode::Nft, Mode::Legacy, Mode::Ipvs];
    for mode in modes {
        if mode == Mode::Ipvs && !has_ipvs(&network) {
            continue;
        }
        for backend in BOTH {
            leave(&network, backend);
            let _proxy = Proxy::start_in(mode, &network, &["--cluster-cidr", CLUSTER_CIDR]);
            eventually("what kube-proxy has left to go", || is_gone(&network));
            forget_stranger(&network);
        }
    }
}

#[test]
fn cleaning_up_removes_what_kube_proxys_sets_name() {
    let network = Network::new();
    for backend in BOTH {
        leave(&network, backend);
        assert!(Proxy::clean_up(&network).success());
        assert!(is_gone(&network), "{}", ipset(&network, "save"));
        forget_stranger(&network);
    }
}
