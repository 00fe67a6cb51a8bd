//! What the operators' pages say is true of running programs: the metrics, by their names, types and labels; the commands,
//! run as they are written; the dashboard and the alerts.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use lab::{Host, Lab, Plan, Programs, demo, wait_until};
use reference::commands::{self, Block, Kind};

/// Metrics by name as Prometheus has it, with type and labels.
type Metrics = BTreeMap<String, (String, BTreeSet<String>)>;

/// The node whose proxy is in iptables mode.
const IPTABLES_NODE: &str = "node2";
/// What a kernel without nfacct has no metrics of.
const OF_NFACCT: &str = "kubeproxy_iptables_";

/// Where the node's files are on a real one: commands find there what the lab keeps elsewhere.
const AS_ON_A_NODE: &str = r#"
mount --bind "$NODE" "$PLACES/run/flannel"
mount --bind /run/tweed-lab "$PLACES/run/tweed-lab"
mount --bind "$NODE/cni" "$PLACES/lib/cni"
mount --bind "$NODE/cni" "$PLACES/opt/cni"
mount --rbind "$PLACES/lib" /var/lib
mount --rbind "$PLACES/opt" /opt
mount --rbind "$PLACES/run" /run
"#;

/// A Service whose endpoint changes, by an object that says when it did: what some metrics wait for.
const CHANGING: &str = "
apiVersion: v1
kind: Service
metadata: { name: changing, namespace: default }
spec:
  type: ClusterIP
  clusterIP: 10.97.1.1
  clusterIPs: [10.97.1.1, 'fd00:97::1']
  ipFamilies: [IPv4, IPv6]
  ports: [{ name: dns, protocol: UDP, port: 53 }]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: changing-4
  namespace: default
  labels: { kubernetes.io/service-name: changing }
  annotations: { endpoints.kubernetes.io/last-change-trigger-time: 'TIME' }
addressType: IPv4
ports: [{ name: dns, protocol: UDP, port: 53 }]
endpoints: [{ addresses: [10.244.200.ADDRESS], conditions: { ready: true } }]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: changing-6
  namespace: default
  labels: { kubernetes.io/service-name: changing }
  annotations: { endpoints.kubernetes.io/last-change-trigger-time: 'TIME' }
addressType: IPv6
ports: [{ name: dns, protocol: UDP, port: 53 }]
endpoints: [{ addresses: ['fd00:244::ADDRESS'], conditions: { ready: true } }]
";

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn running_lab(name: &str) -> Lab {
    let name = format!("{name}{}", std::process::id());
    let plan = Plan::new(&name, 3).unwrap();
    let mut lab = Lab::create(plan, Programs::find().unwrap()).unwrap();
    demo::bring_up(&mut lab, &mut std::io::sink()).unwrap();
    lab
}

fn documented(heading: &str) -> Metrics {
    let rows = reference::table("metrics.md", heading).into_iter();
    rows.map(|row| {
        let labels = reference::code(&row.columns[1]).into_iter().collect();
        (row.names[0].clone(), (row.columns[0].clone(), labels))
    })
    .collect()
}

fn all_documented() -> Metrics {
    ["flannel-agent", "service-proxy"]
        .into_iter()
        .flat_map(documented)
        .collect()
}

fn scrape(host: &Host, port: u16) -> Metrics {
    let url = format!("http://127.0.0.1:{port}/metrics");
    // Before the program listens there is nothing.
    host.text(Command::new("curl").args(["-s", &url]))
        .map(|text| parse(&text))
        .unwrap_or_default()
}

/// The metrics of a text in the OpenMetrics format.
fn parse(text: &str) -> Metrics {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let types = types.map(|line| line.split_once(' ').unwrap());
    types
        .map(|(family, kind)| {
            let name = match kind {
                "counter" => format!("{family}_total"),
                "info" => format!("{family}_info"),
                _ => family.to_owned(),
            };
            let samples = text.lines().filter(|line| {
                let rest = line.strip_prefix(&name).unwrap_or_default();
                rest.starts_with(['{', ' ', '_'])
            });
            let labels = samples.flat_map(labels).collect();
            (name, (kind.to_owned(), labels))
        })
        .collect()
}

/// The labels of a sample but for `le`, which every histogram has.
fn labels(sample: &str) -> Vec<String> {
    let Some((_, labels)) = sample.split_once('{') else {
        return Vec::new();
    };
    let (labels, _) = labels.split_once('}').unwrap();
    let names = labels.split(',').filter_map(|it| it.split_once('='));
    names
        .map(|(name, _)| name.to_owned())
        .filter(|name| name != "le")
        .collect()
}

/// The names in an expression of Prometheus that are metrics of ours.
fn metrics_in(expression: &str) -> Vec<String> {
    let prefixes = ["flannel_agent_", "service_proxy_", "kubeproxy_", "process_"];
    expression
        .split(|it: char| !it.is_ascii_alphanumeric() && it != '_')
        .filter(|word| prefixes.iter().any(|prefix| word.starts_with(prefix)))
        .map(str::to_owned)
        .collect()
}

fn expressions(value: &serde_json::Value) -> Vec<String> {
    match value {
        serde_json::Value::Object(fields) => fields
            .iter()
            .flat_map(|(key, value)| match value.as_str() {
                Some(text) if key == "expr" || key == "query" => vec![text.to_owned()],
                _ => expressions(value),
            })
            .collect(),
        serde_json::Value::Array(items) => items.iter().flat_map(expressions).collect(),
        _ => Vec::new(),
    }
}

/// The blocks that are for a node, and the one that each is run on.
fn commands() -> Vec<(Block, &'static str)> {
    let node = |block: &Block| match block.kind()? {
        Kind::Node => Some("node1"),
        Kind::IptablesNode => Some(IPTABLES_NODE),
        _ => None,
    };
    let blocks = commands::blocks().into_iter();
    blocks
        .filter_map(|block| Some((node(&block)?, block)))
        .map(|(node, block)| (block, node))
        .collect()
}

/// Runs a block by a shell on a node, whose files are where they are on a real one.
fn run(lab: &Lab, node: &str, block: &str) -> Result<String, String> {
    let places = tempfile::tempdir().unwrap();
    for directory in ["run/flannel", "run/tweed-lab", "lib/cni", "opt/cni"] {
        fs::create_dir_all(places.path().join(directory)).unwrap();
    }
    let programs = Programs::find().unwrap().flannel_agent();
    let path = std::env::var("PATH").unwrap();
    let script = format!("set -eu\n{AS_ON_A_NODE}\n{block}\n");
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "bash", "-c", &script])
        .env(
            "PATH",
            format!("{}:{path}", programs.parent().unwrap().display()),
        )
        .env("NODE", lab.node_plan(node).unwrap().directory)
        .env("PLACES", places.path())
        .env("ETCDCTL_API", "3")
        .env("ETCDCTL_ENDPOINTS", lab.plan().etcd_endpoint())
        .env("OPTIONS", proxy_options(lab, node))
        .env("CLIENT", lab.pods()["client1"].address.to_string())
        .env("OTHER", lab.pods()["web2"].address.to_string())
        .stdin(Stdio::null());
    let output = lab.node(node).unwrap().output(&mut command).unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    if output.status.success() {
        Ok(stdout)
    } else {
        Err(format!("{}\n{stdout}{stderr}", output.status))
    }
}

fn proxy_options(lab: &Lab, node: &str) -> String {
    let manifests = lab.plan().manifests();
    format!(
        "--manifests {} --hostname-override {node} --cluster-cidr {}",
        manifests.display(),
        lab.plan().pod_network
    )
}

#[test]
fn the_operators_pages_are_true_of_a_running_cluster() {
    let mut lab = running_lab("pages");
    demo::web_service(&lab)
        .unwrap()
        .write(&lab.plan().manifests())
        .unwrap();
    lab.kill_proxy(IPTABLES_NODE).unwrap();
    lab.start_proxy_with(IPTABLES_NODE, &["--proxy-mode=iptables"])
        .unwrap();
    metrics_are_those_of_the_page(&lab);
    let mut failed = Vec::new();
    let blocks = commands();
    for (
        Block {
            page, line, text, ..
        },
        node,
    ) in &blocks
    {
        match run(&lab, node, text) {
            Ok(told) => println!("{page}:{line}:\n{text}---\n{told}\n"),
            Err(told) => failed.push(format!("{page}:{line}:\n{text}---\n{told}")),
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
    assert!(blocks.len() > 15, "{}", blocks.len());
}

/// The agent's, and those of proxies in both modes, for whom Services change until every metric is there.
fn metrics_are_those_of_the_page(lab: &Lab) {
    let (mut address, mut there) = (0, Metrics::new());
    let expected = all_documented();
    let missing = |there: &Metrics| {
        let names = expected.keys().filter(|it| !there.contains_key(*it));
        names.cloned().collect::<Vec<_>>()
    };
    let waited = wait_until("all metrics", || {
        thread::sleep(Duration::from_millis(100));
        address = address % 250 + 1;
        change_endpoints(lab, address)?;
        there = scrape(lab.node("node1")?, 10254);
        for node in ["node1", IPTABLES_NODE] {
            there.extend(scrape(lab.node(node)?, 10249));
        }
        let missing = missing(&there);
        Ok(missing.iter().all(|it| it.starts_with(OF_NFACCT)))
    });
    waited.unwrap_or_else(|error| panic!("{error}: {:?}", missing(&there)));
    for (name, metric) in &there {
        assert_eq!(Some(metric), expected.get(name), "{name}");
    }
}

fn change_endpoints(lab: &Lab, address: u8) -> std::io::Result<()> {
    // Changes from before the proxy's start are not measured.
    let now = jiff::Timestamp::now().to_string();
    let manifest = CHANGING.replace("ADDRESS", &address.to_string());
    let path = lab.plan().manifests().join("changing.yaml");
    fs::write(
        path.with_extension("unfinished"),
        manifest.replace("TIME", &now),
    )?;
    fs::rename(path.with_extension("unfinished"), path)
}

/// The lab gives the proxy the manifests' rights alone; iptables' legacy programs take more of them than nftables does.
#[test]
fn the_manifests_rights_are_enough_for_every_kind_of_tables() {
    let name = format!("rights{}", std::process::id());
    let plan = Plan::new(&name, 2).unwrap();
    let mut lab = Lab::create(plan, Programs::find().unwrap()).unwrap();
    for (node, kind) in [("node1", "legacy"), ("node2", "nft")] {
        let options = [
            "--proxy-mode=iptables",
            &format!("--iptables-backend={kind}"),
        ];
        lab.start_proxy_with(node, &options).unwrap();
        for program in ["iptables", "ip6tables"] {
            let mut save = Command::new(format!("{program}-{kind}-save"));
            let host = lab.node(node).unwrap();
            wait_until(&format!("{program}, {kind}: chains"), || {
                thread::sleep(Duration::from_millis(50));
                Ok(host.text(&mut save)?.contains(":KUBE-SERVICES "))
            })
            .unwrap_or_else(|error| panic!("{error}: {}", lab.proxy_log(node).unwrap()));
        }
    }
}

#[test]
fn panels_of_the_dashboard_have_places_of_their_own() {
    let text = fs::read_to_string(workspace().join("deploy/monitoring/dashboard.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    let (mut ids, mut places) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let [x, y, width, height] =
            ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
        // Grafana's grid has 24 columns.
        assert!(x + width <= 24, "{panel}");
        for row in y..y + height {
            assert!(
                (x..x + width).all(|column| places.insert((column, row))),
                "{panel}"
            );
        }
    }
    assert!(ids.len() > 10);
}

#[test]
fn dashboard_and_alerts_ask_for_metrics_that_exist() {
    let directory = workspace().join("deploy/monitoring");
    let read = |name| fs::read_to_string(directory.join(name)).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&read("dashboard.json")).unwrap();
    let alerts: serde_json::Value = serde_saphyr::from_str(&read("alerts.yaml")).unwrap();
    let documented = all_documented();
    let mut asked = BTreeSet::new();
    for expression in [expressions(&dashboard), expressions(&alerts)].concat() {
        let metrics = metrics_in(&expression);
        assert!(
            !metrics.is_empty() || expression == "prometheus",
            "{expression}"
        );
        asked.extend(metrics);
    }
    for metric in &asked {
        let of_histogram = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| metric.strip_suffix(end))
            .and_then(|family| documented.get(family))
            .is_some_and(|(kind, _)| kind == "histogram");
        let is_plain = documented
            .get(metric)
            .is_some_and(|(kind, _)| kind != "histogram");
        assert!(of_histogram || is_plain, "{metric} is in no table");
    }
    assert!(asked.len() > 20, "{asked:?}");
}
