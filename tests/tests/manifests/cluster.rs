//! A cluster of the lab by the manifests: every container as a kubelet starts it, pods by the plugins and the conflist
//! that the init container has installed, and the checks that run in kind.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output},
};

use k8s_openapi::api::{apps::v1::DaemonSet, core::v1::ConfigMap, rbac::v1::ClusterRole};
use lab::{
    Host, Lab, Machine, Plan, Programs, Runtime, address,
    apiserver::{ApiServer, Options},
    demo, wait_until,
};
use serde_json::{Value, json};

use crate::{daemon_sets, deploy, kubelet::Kubelet, kustomize, of_kind, typed};

/// The pods of the checks, and the nodes that they are on.
const PODS: [(&str, usize); 4] = [("web1", 0), ("client1", 0), ("web2", 1), ("client2", 1)];

/// What is only asked of a server that does not stream lists (before 1.32).
const WITHOUT_STREAMS: &str = "list";

struct Cluster {
    machines: Vec<Machine>,
    sets: Vec<DaemonSet>,
    config_maps: BTreeMap<String, BTreeMap<String, String>>,
    arguments: BTreeMap<&'static str, Vec<String>>,
    daemons: Vec<(usize, Child)>,
    pods: BTreeMap<&'static str, (Host, String, Value)>,
    /// One for each program, so that what it asks for can be told.
    servers: BTreeMap<&'static str, ApiServer>,
    lab: Lab,
}

// === impl Cluster ===

impl Cluster {
    fn start(overlay: &str) -> Self {
        let objects = kustomize::render(&deploy().join("manifests/overlays").join(overlay));
        let name: String = overlay.chars().filter(char::is_ascii_lowercase).collect();
        let plan = Plan::new(&format!("{name}{}", std::process::id()), 2).unwrap();
        let mut lab = Lab::create(plan, Programs::find().unwrap()).unwrap();
        let servers: BTreeMap<_, _> = ["kube-flannel", "kube-proxy"]
            .map(|name| (name, api_server(&lab)))
            .into();
        let mut arguments: BTreeMap<_, Vec<String>> = BTreeMap::from([
            // The stand-in knows no TLS, which a pod would speak.
            (
                "kube-flannel",
                vec![format!("--kube-api-url={}", servers["kube-flannel"].url())],
            ),
            (
                "kube-proxy",
                vec![format!("--master={}", servers["kube-proxy"].url())],
            ),
        ]);
        if overlay == "etcd" {
            lab.start_etcd().unwrap();
            lab.write_network_config(demo::NETWORK_CONFIG).unwrap();
            arguments.insert(
                "kube-flannel",
                vec![format!("--etcd-endpoints={}", lab.plan().etcd_endpoint())],
            );
        }
        let plans: Vec<_> = lab.plan().nodes().collect();
        let machines = plans.iter().map(|node| {
            let host = lab.node(&node.name).unwrap();
            Machine::create(host, &node.directory.join("machine")).unwrap()
        });
        let machines: Vec<_> = machines.collect();
        for (number, machine) in (1..).zip(&machines) {
            // Dual stack wants an underlay of both families.
            let ipv6 = format!(
                "ip address add fd00:8::{number}/64 dev eth0 nodad; ip -6 route add default via fd00:8::fe dev eth0"
            );
            machine.sh(&ipv6).unwrap();
            for server in servers.values() {
                server.apply(node(number)).unwrap();
            }
        }
        let maps = of_kind(&objects, "ConfigMap").map(typed::<ConfigMap>);
        let config_maps = maps
            .map(|map| {
                (
                    map.metadata.name.unwrap(),
                    map.data.unwrap().into_iter().collect(),
                )
            })
            .collect();
        let mut cluster = Self {
            machines,
            sets: daemon_sets(&objects),
            config_maps,
            arguments,
            daemons: Vec::new(),
            pods: BTreeMap::new(),
            servers,
            lab,
        };
        cluster.start_daemons();
        cluster.wait_until_ready();
        cluster
    }

    fn kubelet(&self, number: usize) -> Kubelet<'_> {
        Kubelet {
            machine: &self.machines[number],
            node: ["node1", "node2"][number],
            config_maps: &self.config_maps,
            arguments: &self.arguments,
        }
    }

    fn start_daemons(&mut self) {
        let mut started = Vec::new();
        for number in 0..self.machines.len() {
            for set in &self.sets {
                started.push((number, self.kubelet(number).start(set)));
            }
        }
        self.daemons = started;
    }

    fn stop_daemons(&mut self) {
        for (_, mut daemon) in self.daemons.drain(..) {
            let id = nix::unistd::Pid::from_raw(daemon.id().cast_signed());
            nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
            daemon.wait().unwrap();
        }
    }

    /// Waits for the probes to be answered.
    fn wait_until_ready(&self) {
        for number in 0..self.machines.len() {
            let kubelet = self.kubelet(number);
            for set in &self.sets {
                let pod = set.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
                let container = &pod.containers[0];
                wait_until(&format!("{} to be ready", container.name), || {
                    Ok(kubelet.probe(container, true) && kubelet.probe(container, false))
                })
                .unwrap_or_else(|error| panic!("{error}: {}", kubelet.log(&container.name)));
            }
        }
    }

    fn add_pods(&mut self) {
        for (name, node) in PODS {
            let host = Host::create(&self.lab.plan().namespace(name)).unwrap();
            let result = self.runtime(node).add(name, &namespace(&host)).unwrap();
            let ip = address(&result).unwrap().to_string();
            let mut server = Command::new(Programs::find().unwrap().lab());
            server.args(["serve", "--name", name, "--port", "80"]);
            // It ends with its namespace.
            drop(host.spawn(&mut server).unwrap());
            self.pods.insert(name, (host, ip, result));
        }
    }

    fn delete_pods(&mut self) {
        for (name, node) in PODS {
            let (host, _, result) = self.pods.remove(name).unwrap();
            self.runtime(node)
                .delete(name, &namespace(&host), &result)
                .unwrap();
            host.destroy().unwrap();
        }
    }

    fn runtime(&self, number: usize) -> Runtime<'_> {
        let name = format!("node{}", number + 1);
        Runtime {
            host: self.lab.node(&name).unwrap(),
            machine: Some(&self.machines[number]),
            plugins: "/opt/cni/bin".into(),
            conflist: "/etc/cni/net.d/10-flannel.conflist".into(),
        }
    }

    /// The Services of the checks, with what controllers would add: endpoints, and the balancer's address.
    fn apply_services(&self) {
        let text = fs::read_to_string(deploy().join("kind/services.yaml")).unwrap();
        let services: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        let server = &self.servers["kube-proxy"];
        for mut service in services {
            let name = service["metadata"]["name"].as_str().unwrap().to_owned();
            if service["spec"]["type"] == "LoadBalancer" {
                service["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.10"}]}});
            }
            let endpoints = match name.as_str() {
                "web" | "sticky" | "headless" => &["web1", "web2"][..],
                "local" => &["web1"],
                _ => &[],
            };
            server.apply(service).unwrap();
            server.apply(self.slice(&name, endpoints)).unwrap();
        }
        wait_until("the Services to be served", || {
            Ok(self.check(&["all"]).status.success())
        })
        .unwrap_or_else(|error| {
            let log = self.kubelet(0).log("kube-proxy");
            panic!("{error}: {:?}\n{log}", self.check(&["all"]))
        });
    }

    fn slice(&self, service: &str, pods: &[&str]) -> Value {
        let endpoint = |name: &&str| {
            let node = format!(
                "node{}",
                PODS.iter().find(|it| it.0 == *name).unwrap().1 + 1
            );
            json!({"addresses": [self.pods[*name].1], "nodeName": node, "conditions": {"ready": true}})
        };
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": format!("{service}-1"), "namespace": "default",
                "labels": {"kubernetes.io/service-name": service},
            },
            "addressType": "IPv4",
            "ports": [{"name": "http", "protocol": "TCP", "port": 80}],
            "endpoints": pods.iter().map(endpoint).collect::<Vec<_>>(),
        })
    }

    /// `deploy/kind/checks.sh` in this cluster.
    fn checks(&self, arguments: &[&str]) -> Command {
        let directory = self.lab.plan().directory();
        let run = directory.join("in-lab.sh");
        let prefix = self.lab.plan().namespace_prefix();
        let enter = |number: usize| {
            let command = self.machines[number].command("");
            let words = command
                .get_args()
                .map(|it| it.to_string_lossy().into_owned());
            let words: Vec<_> = words.filter(|it| !it.is_empty()).collect();
            format!("{} {}", command.get_program().display(), words.join(" "))
        };
        let script = format!(
            "#!/bin/sh\nkind=$1 name=$2; shift 2\ncase $kind$name in\n\
             nodenode1) exec {} \"$@\" ;;\nnodenode2) exec {} \"$@\" ;;\n*) exec ip netns exec {prefix}$name \"$@\" ;;\nesac\n",
            enter(0),
            enter(1)
        );
        // Not written anew while another check runs it.
        if !run.exists() {
            fs::write(&run, script).unwrap();
            fs::set_permissions(&run, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let mut command = Command::new(deploy().join("kind/checks.sh"));
        command.args(arguments).env("RUN", run);
        // Debian's busybox has a wget that can't do without NSS.
        command.env("GET", "curl --silent --max-time 3");
        for (variable, value) in [
            ("NODE1", "node1"),
            ("NODE2", "node2"),
            ("NODE1_IP", "10.8.65.11"),
            ("NODE2_IP", "10.8.65.12"),
        ] {
            command.env(variable, value);
        }
        for (name, (_, ip, _)) in &self.pods {
            command.env(format!("{}_IP", name.to_uppercase()), ip);
        }
        command
    }

    fn check(&self, arguments: &[&str]) -> Output {
        self.checks(arguments).output().unwrap()
    }

    fn assert_check(&self, arguments: &[&str]) {
        let output = self.check(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr)
        );
    }
}

fn api_server(lab: &Lab) -> ApiServer {
    let address = format!("{}:0", lab.plan().fabric_address());
    let listener = lab
        .fabric()
        .within(|| TcpListener::bind(address))
        .unwrap()
        .unwrap();
    ApiServer::start_on(listener, Options::default()).unwrap()
}

fn node(number: usize) -> Value {
    let cidrs = [
        format!("10.244.{number}.0/24"),
        format!("fd00:10:244:{number}::/64"),
    ];
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": format!("node{number}")},
        "spec": {"podCIDR": cidrs[0], "podCIDRs": cidrs},
        "status": {"addresses": [{"type": "InternalIP", "address": format!("10.8.65.1{number}")}]},
    })
}

fn namespace(host: &Host) -> PathBuf {
    Path::new(kernel::netns::NAMED).join(host.name())
}

/// What a ClusterRole allows, as (resource, verb). The stand-in counts subresources with their resource.
fn allowed(objects: &[Value], role: &str) -> BTreeSet<(String, String)> {
    let mut roles = of_kind(objects, "ClusterRole").map(typed::<ClusterRole>);
    let role = roles.find(|it| it.metadata.name.as_deref() == Some(role));
    let mut allowed = BTreeSet::new();
    for rule in role.unwrap().rules.unwrap() {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                let plural = resource.split('/').next().unwrap();
                let name = format!("{plural}.{group}");
                let name = name.trim_end_matches('.');
                let verbs = rule.verbs.iter();
                allowed.extend(verbs.map(|verb| (name.to_owned(), verb.clone())));
            }
        }
    }
    allowed
}

fn asked(server: &ApiServer) -> BTreeSet<(String, String)> {
    let counted = server.counters().all();
    let name = |(resource, verb): &(String, lab::apiserver::Verb)| {
        let verb = serde_json::to_value(verb).unwrap();
        (resource.clone(), verb.as_str().unwrap().to_owned())
    };
    counted.keys().map(name).collect()
}

/// The checks, a restart of everything under traffic, and the removal.
fn works(overlay: &str) -> Cluster {
    let mut cluster = Cluster::start(overlay);
    cluster.add_pods();
    cluster.apply_services();

    let stop = cluster.lab.plan().directory().join("stop");
    let mut traffic = cluster.checks(&["go-on", stop.to_str().unwrap()]);
    let traffic = traffic
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    cluster.stop_daemons();
    cluster.start_daemons();
    cluster.wait_until_ready();
    fs::write(&stop, "").unwrap();
    let traffic = traffic.wait_with_output().unwrap();
    assert!(traffic.status.success(), "{traffic:?}");
    cluster.assert_check(&["all"]);

    cluster.delete_pods();
    cluster.stop_daemons();
    let programs = Programs::find().unwrap();
    for number in [0, 1] {
        for program in [programs.service_proxy(), programs.flannel_agent()] {
            cluster.machines[number]
                .sh(&format!("{} --cleanup", program.display()))
                .unwrap();
        }
        cluster.assert_check(&["gone", ["node1", "node2"][number]]);
    }
    cluster
}

#[test]
fn the_usual_overlay_works_with_the_rights_that_it_has() {
    let cluster = works("kube");
    let objects = kustomize::render(&deploy().join("manifests/overlays/kube"));
    for (program, role) in [
        ("kube-flannel", "flannel"),
        ("kube-proxy", "tweed-service-proxy"),
    ] {
        let (allowed, asked) = (allowed(&objects, role), asked(&cluster.servers[program]));
        let missing: Vec<_> = asked.difference(&allowed).collect();
        assert!(missing.is_empty(), "{role} may not {missing:?}");
        let needless = allowed.difference(&asked);
        let needless: Vec<_> = needless.filter(|it| it.1 != WITHOUT_STREAMS).collect();
        assert!(
            needless.is_empty(),
            "{role} may {needless:?} and never does"
        );
    }
}

#[test]
fn the_overlay_with_iptables_works() {
    works("proxy-iptables");
}

#[test]
fn the_overlay_with_etcd_works() {
    works("etcd");
}

#[test]
fn the_overlay_of_both_families_works() {
    works("dual-stack");
}
