//! Another proxy in the place of ours, by its path: kube-proxy, or ours by way of the API server.
//!
//! `TWEED_PROXY=/path/to/kube-proxy cargo test -p service-proxy --test packets -- another_proxy --nocapture` runs
//! the rows of this suite with it, mode by mode, and prints those that do not hold.

use std::{
    env,
    ffi::OsString,
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::AtomicBool,
    thread,
};

use kernel::Family;
use lab::apiserver::{ApiServer, Options};
use serde_json::{Value, json};

use crate::{
    assert_served, eventually,
    hot_switch::keep_asking,
    http,
    load::End,
    network::{CLUSTER_CIDR, Network, Place},
    proxy::{MODE, Mode, Proxy},
    switch::{has_ipvs, is_alone},
    web,
};

/// The variable that names the proxy.
const PROGRAM: &str = "TWEED_PROXY";
/// Set for the run of the rows that [`another_proxy`] makes.
const ROWS: &str = "TWEED_PROXY_ROWS";
/// Where the proxy tells how it goes.
const METRICS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 10249);

/// What is not run with another proxy, and why.
const LEFT_OUT: [(&str, &str); 23] = [
    ("a_killed_proxy_takes_over", "looks at our tables"),
    ("a_slot_that_has_gone_is_no_loss", "looks at our tables"),
    ("drift_is_repaired_and_others", "looks at our tables"),
    ("manifests_are_followed_live", "about manifests"),
    ("no_connection_is_lost_to_a_commit", "reads our log"),
    ("the_listing_can_be_loaded", "looks at our tables"),
    ("the_number_of_rules_does_not_grow", "looks at our tables"),
    ("affinity::sessions_", "looks at our tables"),
    ("check_ports::", "reads our log and JSON to the byte"),
    (
        "connections_to_removed_endpoints_are_reset",
        "an option of ours",
    ),
    ("external::external_ips_are_not", "looks at our tables"),
    ("foreign::another_proxy", "this"),
    ("health::", "follows files, with options of ours"),
    ("inspect::", "commands of ours"),
    ("iptables::", "with options of ours"),
    ("ipvs::", "with options of ours"),
    ("ipvs_filter::", "with options of ours"),
    ("localhost::", "KEP-6032, an alpha of 1.37"),
    ("modes::", "runs the rows of ours"),
    ("node::the_node_may_come_with", "looks at our tables"),
    // hot_switch:: too.
    ("switch::", "reads our log"),
    ("takeover::", "what ours does about kube-proxy's remains"),
    ("tuning::", "looks at our log"),
];

const NFTABLES: &str = "nftables";
const BOTH_IPTABLES: &str = "iptables";
const ALL: &str = "";

/// What is another in kube-proxy: the row, how the modes' names begin, and why. Seen with 1.36.2.
const DIFFERS: [(&str, &str, &str); 7] = [
    (
        "what_nobody_serves_is_refused",
        BOTH_IPTABLES,
        "other ports of a cluster IP are no match and routed (F15)",
    ),
    (
        "external::without_endpoints_all_addresses_refuse",
        BOTH_IPTABLES,
        "the node itself is not told: OUTPUT does not lead to KUBE-EXTERNAL-SERVICES",
    ),
    (
        "invalid::",
        NFTABLES,
        "no rule for packets that fit no connection (F35)",
    ),
    (
        "node::unknown_cluster_ips",
        NFTABLES,
        "a ServiceCIDR that has gone stays in the rules until all are written again, in an hour",
    ),
    (
        "datagrams_find_another_endpoint",
        ALL,
        "flows of a Service without endpoints are left alone (F34)",
    ),
    (
        "node::node_ports_at_the_primary",
        ALL,
        "`primary` is looked up at the start alone (F16)",
    ),
    (
        "node::pods_are_those_of_the_nodes",
        ALL,
        "ends where podCIDRs change (F27)",
    ),
];

/// The proxy that is to be run in the place of ours.
pub fn program() -> Option<OsString> {
    env::var_os(PROGRAM).filter(|_| env::var_os(ROWS).is_some())
}

/// An API server on the node, with the node's object.
pub fn serve(network: &Network) -> ApiServer {
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let listener = network.namespace(Place::Node).run(listen).unwrap().unwrap();
    let server = ApiServer::start_on(listener, Options::default()).unwrap();
    apply(
        &server,
        "apiVersion: v1\nkind: Node\nmetadata: {name: node}\n",
    );
    server
}

/// Gives the objects of a manifest to the API server.
pub fn apply(server: &ApiServer, manifest: &str) {
    for mut object in objects(manifest) {
        // kube-proxy waits for the node's addresses.
        if object["kind"] == "Node" && object.get("status").is_none() {
            object["status"] = status();
        }
        server.apply(object).unwrap();
    }
}

/// The node's addresses.
fn status() -> Value {
    let addresses = Family::ALL.map(|family| {
        let address = Place::Outside.gateway(family);
        json!({"type": "InternalIP", "address": address})
    });
    json!({"addresses": addresses})
}

/// Takes them away.
pub fn delete(server: &ApiServer, manifest: &str) {
    for object in objects(manifest) {
        let text = |pointer| {
            let found = object.pointer(pointer).and_then(Value::as_str);
            found.unwrap_or_default()
        };
        server
            .delete(
                text("/apiVersion"),
                text("/kind"),
                text("/metadata/namespace"),
                text("/metadata/name"),
            )
            .unwrap();
    }
}

fn objects(manifest: &str) -> impl Iterator<Item = Value> {
    let documents = manifest.split("---\n");
    documents.map(|document| serde_saphyr::from_str(document).unwrap())
}

/// Another proxy for a node, with kube-proxy's names of options.
pub fn daemon(server: &ApiServer, mode: Mode, network: &Network, options: &[&str]) -> Command {
    let kubeconfig = network.manifests().join("kubeconfig");
    server.kubeconfig(&kubeconfig).unwrap();
    let mut command = Command::new(program().unwrap());
    command
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(["--hostname-override=node", "--v=2"])
        // The stand-in speaks nothing else.
        .arg("--kube-api-content-type=application/json")
        // A network namespace of its own has some of these, and may not set others.
        .args(["--conntrack-max-per-core=0", "--conntrack-min=0"])
        .args([
            "--conntrack-tcp-timeout-established=0s",
            "--conntrack-tcp-timeout-close-wait=0s",
        ])
        .arg("--iptables-min-sync-period=10ms")
        .args(options.iter().map(|option| match *option {
            "--sync-period" => "--iptables-sync-period",
            other => other,
        }))
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    match mode.backend() {
        None if mode == Mode::Ipvs => command.arg("--proxy-mode=ipvs"),
        // Behind a gate until 1.31.
        None => command.args([
            "--proxy-mode=nftables",
            "--feature-gates=NFTablesProxyMode=true",
        ]),
        Some(backend) => command
            .arg("--proxy-mode=iptables")
            .env("PATH", programs(&network.manifests(), backend)),
    };
    command
}

/// A PATH in which the programs of iptables are those of a backend.
fn programs(directory: &Path, backend: &str) -> OsString {
    let directory = directory.join("programs");
    if !directory.exists() {
        fs::create_dir(&directory).unwrap();
        for family in ["iptables", "ip6tables"] {
            for name in ["", "-save", "-restore"] {
                let program = format!("xtables-{backend}-multi");
                let program = PathBuf::from("/usr/sbin").join(program);
                symlink(program, directory.join(format!("{family}{name}"))).unwrap();
            }
        }
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::join_paths([directory].into_iter().chain(env::split_paths(&path))).unwrap()
}

/// Waits until it has put everything into the kernel, in both families.
pub fn wait_for_sync(network: &Network) {
    let counted = || {
        let told = http::get(network, Place::Node, METRICS, "/metrics").ok()?;
        let syncs = told.body.lines().filter_map(|line| {
            let name = "kubeproxy_sync_proxy_rules_duration_seconds_count";
            line.strip_prefix(name)?
                .rsplit(' ')
                .next()?
                .parse::<f64>()
                .ok()
        });
        Some(syncs.sum::<f64>())
    };
    eventually("the first sync", || {
        counted().is_some_and(|count| count >= 2.0)
    });
}

/// The rows that do not hold in a mode, with what they said.
fn rows(program: &OsString, mode: &str, only: &[&str]) -> (usize, Vec<String>) {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--test-threads", "2"])
        .args(only)
        .env(PROGRAM, program)
        .env(ROWS, "1")
        .env_remove(MODE);
    if mode != "nftables" {
        command.env(MODE, mode);
    }
    let ours = Path::new(program).file_name() == Some("service-proxy".as_ref());
    let differs = DIFFERS
        .iter()
        .filter(|(_, modes, _)| mode.starts_with(modes));
    let differs = differs.filter(|_| !ours).map(|(name, _, _)| *name);
    for name in LEFT_OUT.map(|(name, _)| name).into_iter().chain(differs) {
        command.args(["--skip", name]);
    }
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let failed = told.lines().filter(|line| line.ends_with("... FAILED"));
    let failed = failed.map(ToOwned::to_owned).collect();
    if env::var_os(PROGRAM).is_some() || !output.status.success() {
        println!("{told}");
    }
    (told.matches("... ok").count(), failed)
}

/// Ours takes over from the other one, in every mode: no connection is lost, and nothing of the other one is left
/// but the chains that ours has in iptables mode too.
#[test]
fn ours_takes_over() {
    if program().is_none() {
        return;
    }
    for mode in [Mode::Ipvs, Mode::Nftables, Mode::Nft, Mode::Legacy] {
        let network = Network::new();
        if mode == Mode::Ipvs && !has_ipvs(&network) {
            continue;
        }
        network.write(&web(Family::V4));
        let options = ["--cluster-cidr", CLUSTER_CIDR];
        let mut other = Proxy::start_in(Mode::of_run(), &network, &options);
        let to = web(Family::V4).socket();
        assert_served(&network, Place::Client, to, false);
        let mut open = network.connect(Place::Client, to);
        other.kill();
        let end = AtomicBool::new(false);
        thread::scope(|scope| {
            let client = scope.spawn(|| keep_asking(&network, (Place::Client, to), &end));
            let ending = End(&end);
            let ours = Proxy::start_ours(mode, &network);
            eventually("the other one's rules to go", || {
                !network.nft("list tables").contains("kube-proxy") && is_alone(&network, mode)
            });
            drop(ending);
            let asked = client.join().unwrap();
            assert!(asked > 0);
            println!("{mode:?} takes over: 1 stayed open, {asked} were made, none was lost");
            open.assert_echoes();
            assert_served(&network, Place::Client, to, false);
            drop(ours);
        });
    }
}

/// Without a proxy that is named, ours by way of the API server, and a few rows: the way has to stay open.
#[test]
fn another_proxy() {
    if program().is_some() || Mode::of_run() != Mode::Nftables {
        return;
    }
    let named = env::var_os(PROGRAM);
    let (program, modes, only): (_, &[_], &[_]) = match named {
        Some(program) => (
            program,
            &["nftables", "iptables-nft", "iptables-legacy"],
            &[],
        ),
        None => (
            env!("CARGO_BIN_EXE_service-proxy").into(),
            &["nftables"],
            &[
                "reaches_every_endpoint",
                "external::policy_local",
                "ours_takes_over",
            ],
        ),
    };
    let mut all = Vec::new();
    for mode in modes {
        let (held, failed) = rows(&program, mode, only);
        println!("{mode}: {held} rows hold, {} do not", failed.len());
        assert!(held >= only.len(), "{mode}");
        all.extend(failed.iter().map(|row| format!("{mode}: {row}")));
    }
    assert_eq!(all, [""; 0]);
}
