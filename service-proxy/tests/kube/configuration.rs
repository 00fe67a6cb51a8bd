//! The configuration: its file, what is wrong with it, and what happens when it changes.

use std::process::{Command, Output};

use lab::apiserver::{ApiServer, Server};
use serde_json::{Value, json};

use crate::node::{
    NODE, Proxy, Traffic, eventually, eventually_served_by, nft, on_node, service, slice,
};

fn running() -> Server {
    let server = Server::StandIn(ApiServer::start().unwrap());
    server.apply(service(1)).unwrap();
    server.apply(slice(1, &[1, 2])).unwrap();
    server
}

fn node(pod_networks: &[&str]) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE},
        "spec": {"podCIDRs": pod_networks},
    })
}

fn eventually_in_rules(words: &str) {
    let rules = || nft("list table ip tweed-proxy");
    eventually(
        || format!("{words:?} in\n{}", rules()),
        || rules().contains(words),
    );
}

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_service-proxy"));
    command.args(arguments).output().unwrap()
}

#[test]
fn a_changed_file_is_followed_without_a_restart() {
    on_node(|| {
        let server = running();
        let proxy = Proxy::start_configured(&server, "clusterCIDR: 10.0.0.0/8\n");
        eventually_served_by(1, &[1, 2]);
        eventually_in_rules("ip saddr != 10.0.0.0/8");
        let traffic = Traffic::start(1);

        proxy.configure("clusterCIDR: 10.128.0.0/9\nnftables: {masqueradeBit: 3}\n");
        eventually_in_rules("ip saddr != 10.128.0.0/9");
        eventually_in_rules("0x00000008");

        proxy.configure("clusterCIDR: [\n");
        proxy.wait_for("is not followed");
        proxy.configure("clusterCIDR: somewhere\noomScoreAdj: 3000\n");
        proxy.wait_for("oomScoreAdj: 3000");
        proxy.wait_for("clusterCIDR: \"somewhere\"");

        proxy.configure_by_link("one", "nftables: {masqueradeAll: true}\n");
        eventually(
            || "all to be masqueraded",
            || !nft("list table ip tweed-proxy").contains("ip saddr !="),
        );
        proxy.configure_by_link(
            "two",
            "clusterCIDR: 10.0.0.0/8\nnodePortAddresses: [192.0.2.0/24]\n",
        );
        eventually_in_rules("ip saddr != 10.0.0.0/8");
        eventually_in_rules("192.0.2.0/24");

        server.apply(slice(1, &[2, 3])).unwrap();
        eventually_served_by(1, &[2, 3]);
        traffic.assert_uninterrupted();
        let complaints = proxy.complaints();
        assert_eq!(complaints.len(), 2, "{complaints:?}");
        assert_eq!(proxy.log().matches("first sync").count(), 1);
    });
}

#[test]
fn the_nodes_pod_networks_are_waited_for_and_followed() {
    on_node(|| {
        let server = running();
        let proxy = Proxy::start_configured(&server, "detectLocalMode: NodeCIDR\n");
        proxy.wait_for("podCIDRs");
        assert!(!proxy.log().contains("first sync"));
        server.apply(node(&["10.244.0.0/24"])).unwrap();
        eventually_in_rules("ip saddr != 10.244.0.0/24");
        let traffic = Traffic::start(1);
        server.apply(node(&["10.244.1.0/24"])).unwrap();
        eventually_in_rules("ip saddr != 10.244.1.0/24");
        traffic.assert_uninterrupted();
    });
}

#[test]
fn what_is_unknown_is_told_of_and_the_rest_has_its_effect() {
    on_node(|| {
        let server = running();
        let lines = "clusterCIDR: 10.0.0.0/8\nclusterCIDR: 10.64.0.0/10\nnftabels: {}\n";
        let proxy = Proxy::start_configured(&server, lines);
        eventually_in_rules("ip saddr != 10.64.0.0/10");
        let complaints = proxy.complaints();
        assert_eq!(complaints.len(), 2, "{complaints:?}");
        assert!(complaints[0].contains("clusterCIDR"), "{complaints:?}");
        assert!(complaints[1].contains("nftabels"), "{complaints:?}");
    });
}

#[test]
fn what_is_wrong_is_all_told_at_the_start() {
    let output = run(&[
        "--proxy-mode=userspace",
        "--oom-score-adj=1001",
        "--cluster-cidr=x",
    ]);
    assert!(!output.status.success());
    let words = String::from_utf8(output.stderr).unwrap();
    for key in [
        "mode: \"userspace\"",
        "oomScoreAdj: 1001",
        "clusterCIDR: \"x\"",
    ] {
        assert!(words.contains(key), "{words}");
    }
}

#[test]
fn a_written_configuration_is_one_that_can_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.yaml");
    let path = path.to_str().unwrap();
    let again = directory.path().join("again.yaml");
    let again = again.to_str().unwrap();
    let written = run(&[
        "--write-config-to",
        path,
        "--cluster-cidr=10.0.0.0/8",
        "--masquerade-all",
    ]);
    assert!(written.status.success(), "{written:?}");
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains("clusterCIDR: 10.0.0.0/8"), "{text}");
    let rewritten = run(&["--config", path, "--write-config-to", again]);
    assert!(rewritten.status.success(), "{rewritten:?}");
    assert_eq!(std::fs::read_to_string(again).unwrap(), text);
}
