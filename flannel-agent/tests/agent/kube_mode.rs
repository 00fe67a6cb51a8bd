//! The whole program with subnets from Kubernetes.

use std::net::TcpListener;

use kernel::Family;
use lab::apiserver::{ApiServer, Options};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    kube_source::{go_node, new_node},
    lab::{Lab, Node, eventually},
    nodes::wait_for_peers,
};

const PREFIX: &str = "flannel.alpha.coreos.com";
const CONF: &str =
    r#"{"Network":"10.244.0.0/16","EnableNFTables":true,"Backend":{"Type":"vxlan"}}"#;
const DUAL: &str = r#"{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:244::/32","Backend":{"Type":"vxlan"}}"#;

/// An API server on the hub.
fn api_server(lab: &Lab) -> ApiServer {
    let listener = lab
        .hub
        .namespace
        .run(|| TcpListener::bind("192.168.64.254:0").unwrap())
        .unwrap();
    ApiServer::start_on(listener, Options::default()).unwrap()
}

fn start(node: &mut Node, server: &ApiServer, conf: &str, arguments: &[&str]) {
    let path = node.directory.path().join("net-conf.json");
    std::fs::write(&path, conf).unwrap();
    let path = format!("--net-config-path={}", path.display());
    let url = format!("--kube-api-url={}", server.url());
    let all = ["--kube-subnet-mgr", &path, &url];
    node.start(&all.iter().chain(arguments).copied().collect::<Vec<_>>());
}

fn object(server: &ApiServer, name: &str) -> Value {
    server.get("v1", "Node", "", name).unwrap().unwrap()
}

fn annotation(server: &ApiServer, name: &str, annotation: &str) -> Option<String> {
    let text = &object(server, name)["metadata"]["annotations"][format!("{PREFIX}/{annotation}")];
    text.as_str().map(str::to_owned)
}

/// Changes an annotation, or removes it, as an operator does.
fn annotate(server: &ApiServer, name: &str, annotation: &str, text: Option<&str>) {
    let mut object = object(server, name);
    let annotations = object["metadata"]["annotations"].as_object_mut().unwrap();
    let annotation = format!("{PREFIX}/{annotation}");
    match text {
        Some(text) => annotations.insert(annotation, text.into()),
        None => annotations.remove(&annotation),
    };
    server.apply(object).unwrap();
}

fn condition(server: &ApiServer, name: &str) -> Option<Value> {
    let object = object(server, name);
    let conditions = object["status"]["conditions"].as_array()?;
    let mut found = conditions.iter();
    found.find(|it| it["type"] == "NetworkUnavailable").cloned()
}

#[test]
fn two_nodes_have_their_subnets_from_kubernetes_and_pods_reach_each_other() {
    let lab = Lab::new("kube", CONF);
    let server = api_server(&lab);
    server.apply(new_node("node1", &["10.244.1.0/24"])).unwrap();
    server.apply(new_node("node2", &["10.244.2.0/24"])).unwrap();
    let [mut one, mut two] = [lab.node(1), lab.node(2)];
    start(&mut one, &server, CONF, &[]);
    start(
        &mut two,
        &server,
        CONF,
        &["--set-node-network-unavailable=false"],
    );
    one.wait_until_ready();
    two.wait_until_ready();
    wait_for_peers(&[&one, &two], Family::V4, "flannel.1");
    assert_eq!(
        one.subnet_env(),
        "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n"
    );
    assert!(one.reaches(&two, "flannel.1") && two.reaches(&one, "flannel.1"));
    let [pod1, _pod2] = [
        one.pod("10.244.1.9", "10.244.1.1"),
        two.pod("10.244.2.9", "10.244.2.1"),
    ];
    let ping = || {
        let mut ping = std::process::Command::new("ping");
        ping.args(["-c3", "-W10", "10.244.2.9"]).output().unwrap()
    };
    let output = pod1.namespace.run(ping).unwrap();
    assert!(output.status.success(), "{output:?}");

    let told = |name: &str| annotation(&server, "node1", name).unwrap_or_default();
    assert_eq!(told("kube-subnet-manager"), "true");
    assert_eq!(told("backend-type"), "vxlan");
    assert_eq!(told("public-ip"), "192.168.64.1");
    let link = one.ip("ip", &["link", "show", "flannel.1"]);
    let mac = told("backend-data");
    let mac = mac.strip_prefix(r#"{"VNI":1,"VtepMAC":""#).unwrap();
    assert!(link.contains(mac.strip_suffix(r#""}"#).unwrap()), "{link}");
    assert_eq!(annotation(&server, "node1", "backend-v6-data"), None);
    eventually("the condition is set", || {
        condition(&server, "node1").is_some()
    });
    let set = condition(&server, "node1").unwrap();
    assert_eq!(set["status"], "False");
    assert_eq!(set["reason"], "FlannelIsUp");
    assert_eq!(set["message"], "Flannel is running on this node");
    assert_eq!(condition(&server, "node2"), None);
    assert!(lab.etcd.leases().is_empty());
}

#[test]
fn a_peer_that_flannel_has_annotated_is_reached_and_its_end_is_followed() {
    let lab = Lab::new("kubego", CONF);
    let server = api_server(&lab);
    server.apply(new_node("node1", &["10.244.1.0/24"])).unwrap();
    server.apply(go_node("go", 9)).unwrap();
    let mut node = lab.node(1);
    start(&mut node, &server, CONF, &[]);
    node.wait_until_ready();
    let fdb = |node: &Node| node.ip("bridge", &["fdb", "show", "dev", "flannel.1"]);
    let routes = |node: &Node| node.ip("ip", &["route", "show", "dev", "flannel.1"]);
    let entry = "c6:d2:32:6f:8f:44 dst 192.168.64.9 self permanent";
    eventually("it is reached", || fdb(&node).trim() == entry);
    assert_eq!(
        routes(&node).trim(),
        "10.244.9.0/24 via 10.244.9.0 proto 84 onlink"
    );

    // The server is away: nothing goes. What happened is seen later.
    server.stop_listening().unwrap();
    server.delete("v1", "Node", "", "go").unwrap();
    eventually("the agent says so", || {
        node.count_in_log("trying again, what stands") > 0
    });
    assert_eq!(fdb(&node).trim(), entry);
    server.listen_again().unwrap();
    eventually("it is gone", || {
        fdb(&node).trim().is_empty() && routes(&node).trim().is_empty()
    });
}

#[test]
fn the_mac_is_that_of_the_annotation_after_a_reboot() {
    let lab = Lab::new("kubemac", CONF);
    let server = api_server(&lab);
    server.apply(go_node("node1", 1)).unwrap();
    let mut node = lab.node(1);
    start(&mut node, &server, CONF, &[]);
    node.wait_until_ready();
    let link = node.ip("ip", &["link", "show", "flannel.1"]);
    assert!(link.contains("c6:d2:32:6f:8f:44"), "{link}");
    assert_eq!(node.count_in_log("written for"), 1);
}

#[test]
fn operators_addresses_are_told_and_annotations_are_put_back() {
    let lab = Lab::new("kubepublic", CONF);
    let server = api_server(&lab);
    let mut own = new_node("node1", &["10.244.1.0/24"]);
    own["metadata"]["annotations"] = serde_json::json!({
        format!("{PREFIX}/node-public-ip"): "203.0.113.1",
    });
    server.apply(own).unwrap();
    let mut node = lab.node(1);
    start(&mut node, &server, CONF, &[]);
    node.wait_until_ready();
    let public = || annotation(&server, "node1", "public-ip");
    eventually("it is told", || public().as_deref() == Some("203.0.113.1"));
    annotate(&server, "node1", "public-ip-overwrite", Some("203.0.113.2"));
    eventually("it is overwritten", || {
        public().as_deref() == Some("203.0.113.2")
    });
    annotate(&server, "node1", "public-ip", None);
    eventually("it is put back", || {
        public().as_deref() == Some("203.0.113.2")
    });
    node.stop(Signal::SIGTERM);
    let revision = server.revision();
    start(&mut node, &server, CONF, &[]);
    node.wait_until_ready();
    assert_eq!(server.revision(), revision, "{}", node.log());
}

#[test]
fn missing_pod_cidrs_and_nodes_are_waited_for() {
    let lab = Lab::new("kubewait", DUAL);
    let server = api_server(&lab);
    let mut node = lab.node(1);
    start(&mut node, &server, DUAL, &[]);
    eventually("the agent waits for its node", || {
        node.count_in_log("there is no node node1 in Kubernetes yet") == 1
    });
    server.apply(new_node("node1", &[])).unwrap();
    eventually("the agent waits for a subnet", || {
        node.count_in_log("node \"node1\" pod cidr not assigned") == 1
    });
    server
        .apply(new_node("node1", &["10.9.1.0/24", "fd00:244:1::/64"]))
        .unwrap();
    eventually("the agent wants another subnet", || {
        let text = "subnet \"10.244.0.0/16\" specified in the flannel net config doesn't contain \
                    \"10.9.1.0/24\" PodCIDR of the \"node1\" node";
        node.count_in_log(text) == 1
    });
    server
        .apply(new_node("node1", &["10.244.1.0/24", "fd00:244:1::/64"]))
        .unwrap();
    node.wait_until_ready();
    assert!(
        node.subnet_env()
            .contains("FLANNEL_IPV6_SUBNET=fd00:244:1::1/64\n")
    );
    assert_eq!(node.count_in_log("pod cidr not assigned"), 1);
}
