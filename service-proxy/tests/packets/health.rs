//! What others can ask the proxy (service-proxy F30 to F33).

use std::{
    fs,
    io::Write,
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use kernel::Family;
use serde_json::{Value, json};

use crate::{
    eventually, http,
    manifest::{Listed, Service},
    network::{CLUSTER_CIDR, Network, PODS, Place},
    proxy::Proxy,
    web,
};

const HEALTH: &str = "127.0.0.1:10256";
pub const METRICS: &str = "127.0.0.1:10249";

pub fn get(network: &Network, at: &str, path: &str) -> http::Response {
    let at: SocketAddr = at.parse().unwrap();
    http::get(network, Place::Node, at, path).unwrap()
}

fn write_node(network: &Network, taint: &str) {
    let path = network.manifests().join("node.json");
    let taints = json!([{"key": taint, "effect": "NoSchedule"}]);
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node"},
        "spec": {"taints": taints}});
    fs::write(path.with_extension("tmp"), node.to_string()).unwrap();
    fs::rename(path.with_extension("tmp"), path).unwrap();
}

#[test]
fn health_is_told_of_the_kernel_and_of_the_node() {
    let network = Network::new();
    network.write(&web(Family::V4));
    write_node(&network, "example.com/other");
    let _proxy = Proxy::start(&network);
    let healthz = get(&network, HEALTH, "/healthz");
    assert_eq!(healthz.status, 200);
    assert_eq!(healthz.header("content-type"), Some("application/json"));
    assert_eq!(healthz.header("x-content-type-options"), Some("nosniff"));
    let body = healthz.json();
    assert_eq!(
        (&body["healthy"], &body["nodeEligible"]),
        (&json!(true), &json!(true))
    );
    for family in ["IPv4", "IPv6"] {
        assert_eq!(body["status"][family]["healthy"], json!(true), "{body}");
        assert!(
            body["status"][family]["lastUpdated"].as_str() > Some("2"),
            "{body}"
        );
    }

    write_node(&network, "ToBeDeletedByClusterAutoscaler");
    eventually("the node to be out of the load balancers", || {
        get(&network, HEALTH, "/healthz").status == 503
    });
    let livez = get(&network, HEALTH, "/livez");
    assert_eq!(
        (livez.status, livez.json().get("nodeEligible")),
        (200, None::<&Value>)
    );
    fs::remove_file(network.manifests().join("node.json")).unwrap();
    let body = get(&network, HEALTH, "/healthz").json();
    assert_eq!(body["nodeEligible"], json!(false), "{body}");
    write_node(&network, "example.com/other");
    eventually("the node to be back", || {
        get(&network, HEALTH, "/healthz").status == 200
    });
}

/// Holds a table in such a way that nobody else can change it, until it is dropped (nft(8), `flags owner`).
pub struct Owner(Child);

impl Owner {
    /// Takes the table away from whoever has it.
    pub fn of(network: &Network, table: &str) -> Self {
        let nft = || {
            Command::new("nft")
                .arg("-i")
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()
        };
        let mut child = network.namespace(Place::Node).run(nft).unwrap().unwrap();
        // In one transaction: what is deleted alone is there again at once.
        let commands = format!("delete table {table}; add table {table} {{ flags owner; }}\n");
        child
            .stdin
            .as_mut()
            .unwrap()
            .write_all(commands.as_bytes())
            .unwrap();
        Self(child)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        for ended in [self.0.kill(), self.0.wait().map(drop)] {
            if let Err(error) = ended {
                eprintln!("end nft: {error}");
            }
        }
    }
}

#[test]
fn a_kernel_that_does_not_follow_is_told_of() {
    let network = Network::new();
    network.write(&web(Family::V4));
    let proxy = Proxy::start(&network);
    let owner = Owner::of(&network, "ip tweed-proxy");
    // An attempt that takes long delays the other family too, but only until it has ended.
    let healthy = |body: &Value, family: &str| body["status"][family]["healthy"] == json!(true);
    eventually("the fault of IPv4 to last for two sync periods", || {
        let body = get(&network, HEALTH, "/healthz").json();
        !healthy(&body, "IPv4") && healthy(&body, "IPv6")
    });
    for path in ["/healthz", "/livez"] {
        assert_eq!(get(&network, HEALTH, path).status, 503, "{path}");
    }
    let metrics = get(&network, METRICS, "/metrics").body;
    let failures = "nftables_sync_failures_total{ip_family=\"IPv4\"} ";
    assert!(
        metrics.contains(failures) && !metrics.contains(&format!("{failures}0\n")),
        "{metrics}"
    );
    drop(owner);
    eventually("the kernel to follow again", || {
        get(&network, HEALTH, "/livez").status == 200
    });
    drop(proxy);
}

#[test]
fn metrics_and_the_mode_are_told() {
    let network = Network::new();
    let mut service = web(Family::V6);
    network.write(&service);
    let _proxy = Proxy::start(&network);
    let mode = get(&network, METRICS, "/proxyMode");
    assert_eq!((mode.status, mode.body.as_str()), (200, "nftables"));
    assert_eq!(get(&network, METRICS, "/healthz").body, "ok");
    let metrics = get(&network, METRICS, "/metrics");
    assert!(
        metrics
            .header("content-type")
            .unwrap()
            .starts_with("application/openmetrics-text")
    );
    let partial = |count: u32| {
        let line =
            format!("partial_proxy_rules_duration_seconds_count{{ip_family=\"IPv6\"}} {count}\n");
        get(&network, METRICS, "/metrics").body.contains(&line)
    };
    assert!(!partial(1));
    service.endpoints.pop();
    network.write(&service);
    eventually("the change to be counted", || partial(1));
    assert_eq!(get(&network, METRICS, "/elsewhere").status, 404);
}

#[test]
fn the_configuration_in_force_is_told() {
    let network = Network::new();
    network.write(&web(Family::V4));
    let _proxy = Proxy::start(&network);
    let told = get(&network, METRICS, "/configz");
    assert_eq!(told.status, 200);
    let told = &told.json()["kubeproxy.config.k8s.io"];
    assert_eq!(told["Mode"], "nftables");
    let networks: Vec<_> = CLUSTER_CIDR.split(',').collect();
    assert_eq!(
        told["DetectLocal"]["ClusterCIDRs"],
        serde_json::json!(networks)
    );
    assert_eq!(told["SyncPeriod"], "500ms");
    assert_eq!(get(&network, METRICS, "/debug/pprof/").status, 404);
}

#[test]
fn service_ports_without_endpoints_here_are_counted() {
    let network = Network::new();
    let mut service = Service {
        spec: "\x20 type: NodePort\n\x20 externalTrafficPolicy: Local\n".to_owned(),
        node_port: Some(30080),
        ..web(Family::V4)
    };
    let here = service.endpoints.clone();
    service.endpoints = PODS
        .map(|pod| Listed::ready(pod, Family::V4).elsewhere())
        .to_vec();
    network.write(&service);
    let _proxy = Proxy::start(&network);
    let counted = |policy: &str, ports: u32| {
        let name = "kubeproxy_sync_proxy_rules_no_local_endpoints_total";
        let text = get(&network, METRICS, "/metrics").body;
        text.lines().any(|line| {
            line.starts_with(name)
                && line.contains("IPv4")
                && line.contains(policy)
                && line.ends_with(&format!(" {ports}"))
        })
    };
    // One of TCP and one of UDP.
    eventually("two ports to be counted", || counted("external", 2));
    assert!(counted("internal", 0));
    service.endpoints = here;
    network.write(&service);
    eventually("no port to be counted", || counted("external", 0));
}

#[test]
fn json_is_logged_where_it_is_asked_for() {
    let network = Network::new();
    network.write(&web(Family::V4));
    let proxy = Proxy::start_with(&network, &["--logging-format=json"]);
    let log = proxy.log();
    let mut lines = log
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let first_sync = |line: &serde_json::Value| {
        let message = line["message"].as_str().unwrap();
        message.starts_with("first sync") && line["level"] == "INFO"
    };
    assert!(lines.any(|line| first_sync(&line)), "{log}");
}

#[test]
fn an_address_that_is_taken() {
    let network = Network::new();
    network.write(&web(Family::V4));
    let taken = || std::net::TcpListener::bind(HEALTH);
    let taken = network.namespace(Place::Node).run(taken).unwrap().unwrap();
    let options = ["--cluster-cidr", CLUSTER_CIDR, "--bind-address-hard-fail"];
    let output = Proxy::fail_with(&network, &options);
    for words in [
        HEALTH,
        "--healthz-bind-address",
        "in use",
        "--bind-address-hard-fail",
    ] {
        let words = words.replace("127.0.0.1", "0.0.0.0");
        assert!(output.contains(&words), "{output}");
    }
    let proxy = Proxy::start(&network);
    assert!(proxy.log().contains("0.0.0.0:10256"), "{}", proxy.log());
    assert_eq!(get(&network, METRICS, "/healthz").status, 200);
    drop(taken);
    eventually("the address to be free", || {
        http::get(&network, Place::Node, HEALTH.parse().unwrap(), "/healthz")
            .is_ok_and(|response| response.status == 200)
    });
}

#[test]
fn what_is_not_asked_for_is_not_served() {
    let network = Network::new();
    let options = [
        "--healthz-bind-address=",
        "--metrics-bind-address",
        "10.244.4.1",
    ];
    let _proxy = Proxy::start_with(&network, &options);
    let at: SocketAddr = HEALTH.parse().unwrap();
    assert!(http::get(&network, Place::Node, at, "/healthz").is_err());
    let metrics = http::get(
        &network,
        Place::Client,
        "10.244.4.1:10249".parse().unwrap(),
        "/proxyMode",
    );
    assert_eq!(metrics.unwrap().status, 200);
}
