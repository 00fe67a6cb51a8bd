//! The Service of the test, and the API server from which all proxies know it.

use std::net::{IpAddr, TcpListener};

use lab::{
    Lab,
    apiserver::{ApiServer, Options},
};
use serde_json::{Value, json};

const WEB: &str = include_str!("web.yaml");
/// How many more Services there are, so that the iptables mode of ours makes a tree of their chains.
const OTHERS: u8 = 20;

/// A server that all nodes reach, which knows them.
pub fn server(lab: &Lab) -> ApiServer {
    let address = format!("{}:0", lab.plan().fabric_address());
    let listener = lab.fabric().within(|| TcpListener::bind(address));
    let server = ApiServer::start_on(listener.unwrap().unwrap(), Options::default()).unwrap();
    for node in lab.plan().nodes() {
        let node = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": node.name},
            "status": {"addresses": [{"type": "InternalIP", "address": node.address}]},
        });
        server.apply(node).unwrap();
    }
    server
}

/// Has a Service with two endpoints, one on each node, and others that nobody asks.
pub fn apply(server: &ApiServer, web: [IpAddr; 2]) {
    let [web1, web2] = web.map(|it| it.to_string());
    let manifest = WEB.replace("WEB1", &web1).replace("WEB2", &web2);
    let others = (1..=OTHERS).map(|number| {
        let name = format!("other{number}");
        let port = (30080 + u16::from(number)).to_string();
        let other = manifest.replace("default\n", "others\n");
        let other = other.replace(": web\n", &format!(": {name}\n"));
        let other = other.replace(": web-1\n", &format!(": {name}-1\n"));
        let other = other.replace("10.97.97.97", &format!("10.97.98.{number}"));
        other.replace("30080", &port)
    });
    for manifest in others.chain([manifest.clone()]) {
        let objects: Vec<Value> = serde_saphyr::from_multiple(&manifest).unwrap();
        for object in objects {
            server.apply(object).unwrap();
        }
    }
}

/// What kube-proxy and ours are told on a node.
pub fn options(number: usize) -> String {
    [
        "--kubeconfig=/etc/kube-proxy.kubeconfig",
        "--cluster-cidr=10.244.0.0/16",
        // The stand-in for the API server speaks nothing else.
        "--kube-api-content-type=application/json",
        // A network namespace of its own has no such settings.
        "--conntrack-max-per-core=0 --conntrack-min=0",
        "--conntrack-tcp-timeout-established=0s --conntrack-tcp-timeout-close-wait=0s",
        &format!("--hostname-override=node{number}"),
    ]
    .join(" ")
}
