//! What is set at the start (service-proxy F35 to F37).

use kernel::{Family, sysctl};

use crate::{
    eventually,
    network::{CLUSTER_CIDR, Network, Place},
    proxy::Proxy,
    web,
};

fn sysctl(network: &Network, key: &str) -> String {
    let key = format!("net/netfilter/nf_conntrack_{key}");
    let get = || sysctl::get(&key);
    network.namespace(Place::Node).run(get).unwrap().unwrap()
}

#[test]
fn tracking_is_set_as_kube_proxy_sets_it() {
    let network = Network::new();
    network.write(&web(Family::V4));
    let before = sysctl(&network, "udp_timeout");
    let _proxy = Proxy::start(&network);
    for (key, value) in [
        ("tcp_timeout_established", "86400"),
        ("tcp_timeout_close_wait", "3600"),
        ("tcp_be_liberal", "0"),
        ("udp_timeout", &before),
    ] {
        eventually(key, || sysctl(&network, key) == value);
    }
}

#[test]
fn tracking_is_set_as_asked_for() {
    let network = Network::new();
    network.write(&web(Family::V4));
    let before = sysctl(&network, "tcp_timeout_established");
    let proxy = Proxy::start_with(
        &network,
        &[
            "--cluster-cidr",
            CLUSTER_CIDR,
            "--conntrack-tcp-timeout-established=0s",
            "--conntrack-tcp-timeout-close-wait",
            "1m30s",
            "--conntrack-tcp-be-liberal",
            "--conntrack-udp-timeout=45s",
            "--conntrack-udp-timeout-stream=2m",
            "--conntrack-max-per-core=0",
            "--oom-score-adj=-998",
        ],
    );
    for (key, value) in [
        ("udp_timeout_stream", "120"),
        ("udp_timeout", "45"),
        ("tcp_timeout_close_wait", "90"),
        ("tcp_be_liberal", "1"),
        ("tcp_timeout_established", &before),
    ] {
        eventually(key, || sysctl(&network, key) == value);
    }
    // The number of flows is the first namespace's to say, and it was not asked for.
    assert!(!proxy.log().contains("conntrack_max"), "{}", proxy.log());
    // Where a container may not do that, it is told, and the proxy works all the same.
    let score = proxy.oom_score_adj();
    assert!(
        score == "-998" || proxy.log().contains("--oom-score-adj"),
        "{score}: {}",
        proxy.log()
    );
}
