//! The walking skeleton, end to end: three nodes, six pods, an overlay leased from etcd, a Service.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    process::{Command, Stdio},
};

use lab::{Host, Lab, Plan, Programs, Service, demo, ping, server, start_ping, wait_until};
use serde_json::Value;

const SUBNETS: &str = "/coreos.com/network/subnets";

fn empty_lab(name: &str, nodes: u8) -> Lab {
    let name = format!("{name}{}", std::process::id());
    Lab::create(Plan::new(&name, nodes).unwrap(), Programs::find().unwrap()).unwrap()
}

fn running_lab(name: &str) -> Lab {
    let mut lab = empty_lab(name, 3);
    demo::bring_up(&mut lab, &mut std::io::sink()).unwrap();
    lab
}

fn nodes(lab: &Lab) -> Vec<String> {
    lab.plan().nodes().map(|node| node.name).collect()
}

fn json(host: &Host, program: &str, arguments: &[&str]) -> Value {
    let text = host.text(Command::new(program).args(arguments)).unwrap();
    serde_json::from_str(if text.trim().is_empty() { "[]" } else { &text }).unwrap()
}

/// A node's lease as etcd has it: its subnet (`10.244.5.0/24`) and the MAC and address of its VTEP.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Lease {
    subnet: String,
    mac: String,
    address: String,
}

/// The leases by node, each checked to the byte against flannel's form.
fn leases(lab: &Lab) -> BTreeMap<String, Lease> {
    let text = lab.etcdctl(&["get", "--prefix", SUBNETS]).unwrap();
    let lines: Vec<_> = text.lines().collect();
    let mut leases = BTreeMap::new();
    for pair in lines.chunks(2) {
        let key = pair[0].strip_prefix(&format!("{SUBNETS}/")).unwrap();
        let value: Value = serde_json::from_str(pair[1]).unwrap();
        let mac = value["BackendData"]["VtepMAC"].as_str().unwrap();
        let address = value["PublicIP"].as_str().unwrap();
        assert_eq!(
            pair[1],
            format!(
                r#"{{"PublicIP":"{address}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"{mac}"}}}}"#
            )
        );
        assert_eq!(mac, mac.to_lowercase());
        let node = lab
            .plan()
            .nodes()
            .find(|node| node.address.to_string() == address)
            .unwrap();
        let lease = Lease {
            subnet: key.replace('-', "/"),
            mac: mac.to_owned(),
            address: address.to_owned(),
        };
        assert_eq!(leases.insert(node.name, lease), None);
    }
    leases
}

fn first_address(subnet: &str) -> &str {
    subnet.strip_suffix("/24").unwrap()
}

/// What `spec/overlay.md` 1.7 says of a node's device, routes, neighbours and forwarding entries.
fn assert_overlay_of(lab: &Lab, node: &str, leases: &BTreeMap<String, Lease>) {
    let host = lab.node(node).unwrap();
    let own = &leases[node];
    let link = &json(host, "ip", &["-j", "-d", "link", "show", "flannel.1"])[0];
    let data = &link["linkinfo"]["info_data"];
    assert_eq!(link["linkinfo"]["info_kind"], "vxlan");
    assert_eq!(link["mtu"], 1450);
    assert_eq!(link["address"], own.mac.as_str());
    assert_eq!(data["id"], 1);
    assert_eq!(data["link"], "eth0");
    assert_eq!(data["local"], own.address.as_str());
    assert_eq!(data["port"], 8472);
    assert_eq!(data["learning"], false);
    let addresses =
        &json(host, "ip", &["-j", "-4", "address", "show", "flannel.1"])[0]["addr_info"];
    assert_eq!(addresses.as_array().unwrap().len(), 1);
    assert_eq!(addresses[0]["local"], first_address(&own.subnet));
    assert_eq!(
        (&addresses[0]["prefixlen"], &addresses[0]["scope"]),
        (&32.into(), &"global".into())
    );
    assert_eq!(
        host.within(|| kernel::sysctl::get("net/ipv6/conf/flannel.1/accept_ra").unwrap())
            .unwrap(),
        "0"
    );

    let others: Vec<_> = leases
        .iter()
        .filter(|(name, _)| *name != node)
        .map(|(_, lease)| lease)
        .collect();
    let routes = json(
        host,
        "ip",
        &["-j", "-4", "route", "show", "dev", "flannel.1"],
    );
    let routes: BTreeSet<_> = routes
        .as_array()
        .unwrap()
        .iter()
        .map(|route| {
            assert_eq!(route["flags"], serde_json::json!(["onlink"]));
            (
                route["dst"].as_str().unwrap().to_owned(),
                route["gateway"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    assert_eq!(
        routes,
        others
            .iter()
            .map(|it| (it.subnet.clone(), first_address(&it.subnet).to_owned()))
            .collect()
    );
    let neighbours = json(
        host,
        "ip",
        &["-j", "-4", "neigh", "show", "dev", "flannel.1"],
    );
    let neighbours: BTreeSet<_> = neighbours
        .as_array()
        .unwrap()
        .iter()
        .map(|neighbour| {
            assert_eq!(neighbour["state"], serde_json::json!(["PERMANENT"]));
            (
                neighbour["dst"].as_str().unwrap().to_owned(),
                neighbour["lladdr"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    assert_eq!(
        neighbours,
        others
            .iter()
            .map(|it| (first_address(&it.subnet).to_owned(), it.mac.clone()))
            .collect()
    );
    let fdb = host
        .text(Command::new("bridge").args(["fdb", "show", "dev", "flannel.1"]))
        .unwrap();
    assert_eq!(
        fdb.lines()
            .map(str::trim)
            .map(str::to_owned)
            .collect::<BTreeSet<_>>(),
        others
            .iter()
            .map(|it| format!("{} dst {} self permanent", it.mac, it.address))
            .collect()
    );
}

fn assert_all_pods_reach_each_other(lab: &Lab) {
    for from in lab.pods().values() {
        let host = lab.pod_host(&from.name).unwrap();
        for to in lab.pods().values() {
            assert!(
                ping(&host, to.address).unwrap(),
                "{} -> {}",
                from.name,
                to.name
            );
        }
    }
}

/// Who answers a Service, asked from a host over TCP and UDP until each of `want` did.
fn assert_answered_by(host: &Host, to: SocketAddr, want: &[&str]) {
    for ask in [server::ask_tcp, server::ask_udp] {
        let mut names = BTreeSet::new();
        for _ in 0..100 {
            names.insert(ask(host, to).unwrap().name);
        }
        assert_eq!(names, want.iter().map(|&name| name.to_owned()).collect());
    }
}

fn service_address(service: &Service) -> SocketAddr {
    SocketAddr::new(service.cluster_ip, service.port)
}

#[test]
fn leases_overlay_and_pods_are_flannels_own() {
    let lab = running_lab("overlay");
    let leases = leases(&lab);
    assert_eq!(leases.keys().cloned().collect::<Vec<_>>(), nodes(&lab));
    let listed: Value = serde_json::from_str(
        &lab.etcdctl(&["get", "--prefix", SUBNETS, "-w", "json"])
            .unwrap(),
    )
    .unwrap();
    for kv in listed["kvs"].as_array().unwrap() {
        let id = format!("{:x}", kv["lease"].as_i64().unwrap());
        let lease = lab
            .etcdctl(&["lease", "timetolive", &id, "--keys"])
            .unwrap();
        assert!(lease.contains("granted with TTL(86400s)"), "{lease}");
        // The key that says whose the lease is goes with it.
        let (_, keys) = lease.split_once("attached keys([").unwrap();
        assert!(keys.contains(&format!("{SUBNETS}/")), "{lease}");
    }
    for node in lab.plan().nodes() {
        let lease = &leases[&node.name];
        assert_overlay_of(&lab, &node.name, &leases);
        let subnet = first_address(&lease.subnet)
            .strip_suffix('0')
            .unwrap()
            .to_owned();
        assert_eq!(
            std::fs::read_to_string(node.directory.join("subnet.env")).unwrap(),
            format!(
                "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET={subnet}1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n"
            )
        );
        for pod in lab.pods().values().filter(|pod| pod.node == node.name) {
            assert!(pod.address.to_string().starts_with(&subnet), "{pod:?}");
            let file = node
                .directory
                .join("cni/networks/cbr0")
                .join(pod.address.to_string());
            assert_eq!(
                std::fs::read_to_string(file).unwrap(),
                format!("{}\r\neth0", pod.container_id)
            );
        }
    }
    assert_all_pods_reach_each_other(&lab);
}

#[test]
fn a_service_spreads_over_its_endpoints_and_follows_them() {
    let lab = running_lab("service");
    let mut service = demo::web_service(&lab).unwrap();
    let to = service_address(&service);
    let manifests = lab.plan().manifests();
    service.write(&manifests).unwrap();
    let client = lab.pod_host("client1").unwrap();
    let node = lab.node("node1").unwrap();
    for host in [&client, node] {
        wait_until("the Service to answer", || {
            Ok(server::ask_tcp(host, to).is_ok())
        })
        .unwrap();
        assert_answered_by(host, to, &["web1", "web2", "web3"]);
    }
    // A pod's address is kept; a pod that reaches itself by way of the Service is masqueraded.
    let own = lab.pod("client1").unwrap().address;
    assert_eq!(server::ask_tcp(&client, to).unwrap().source, own);
    assert_answered_by(
        &lab.pod_host("web1").unwrap(),
        to,
        &["web1", "web2", "web3"],
    );

    let removed = lab.pod("web2").unwrap().address;
    service
        .endpoints
        .retain(|endpoint| endpoint.address != removed);
    service.write(&manifests).unwrap();
    wait_until("web2 to be out of the Service", || {
        let answers = server::ask_many(&client, to, 30)?;
        Ok(answers
            .into_iter()
            .all(|answer| answer.is_ok_and(|it| it.name != "web2")))
    })
    .unwrap();
    assert_answered_by(&client, to, &["web1", "web3"]);

    // One bad manifest does not keep the others from being followed.
    std::fs::write(
        manifests.join("bad.yaml"),
        "apiVersion: v1\nkind: Service\nspec: [this is no spec",
    )
    .unwrap();
    service
        .endpoints
        .retain(|endpoint| endpoint.node == "node3");
    service.write(&manifests).unwrap();
    wait_until("web1 to be out of the Service", || {
        let answers = server::ask_many(&client, to, 30)?;
        Ok(answers
            .into_iter()
            .all(|answer| answer.is_ok_and(|it| it.name == "web3")))
    })
    .unwrap();
    let log = lab.proxy_log("node1").unwrap();
    assert_eq!(
        log.lines().filter(|line| line.contains("bad.yaml")).count(),
        1,
        "{log}"
    );
}

#[test]
fn the_number_of_rules_does_not_grow_with_services() {
    let mut lab = empty_lab("rules", 1);
    demo::bring_up(&mut lab, &mut std::io::sink()).unwrap();
    let manifests = lab.plan().manifests();
    let template = demo::web_service(&lab).unwrap();
    let add = |from: u16, to: u16| {
        for number in from..to {
            let cluster_ip = [10, 98, (number >> 8) as u8, number as u8].into();
            let service = Service {
                name: format!("s{number}"),
                cluster_ip,
                ..template.clone()
            };
            service.write(&manifests).unwrap();
        }
    };
    let node = lab.node("node1").unwrap();
    let wait_for = |number: u16| {
        let to = SocketAddr::from(([10, 98, (number >> 8) as u8, number as u8], 80));
        wait_until("the last Service to answer", || {
            Ok(server::ask_tcp(node, to).is_ok())
        })
        .unwrap();
    };
    add(0, 3);
    wait_for(2);
    let rules = |host: &Host| {
        let ruleset = json(host, "nft", &["-j", "list", "ruleset"]);
        ruleset["nftables"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|it| it.get("rule").is_some())
            .count()
    };
    let few = rules(node);
    assert!(few > 0);
    add(3, 300);
    wait_for(299);
    assert_eq!(rules(node), few);
}

#[test]
fn killed_programs_come_back_to_the_same_state_and_no_ping_is_lost() {
    let mut lab = running_lab("restart");
    demo::web_service(&lab)
        .unwrap()
        .write(&lab.plan().manifests())
        .unwrap();
    let to = service_address(&demo::web_service(&lab).unwrap());
    let client = lab.pod_host("client1").unwrap();
    wait_until("the Service to answer", || {
        Ok(server::ask_tcp(&client, to).is_ok())
    })
    .unwrap();
    let before = leases(&lab);
    let target = lab.pod("web3").unwrap().address;
    let pings = start_ping(&client, target).unwrap();

    // A program that has said that it is up has made its first reconcile; what the kernel tells its
    // listeners from the restart on is what a second run changes.
    let mut monitors = Vec::new();
    for node in nodes(&lab) {
        lab.kill_agent(&node).unwrap();
        lab.kill_proxy(&node).unwrap();
        let host = lab.node(&node).unwrap();
        for (program, arguments) in [
            (
                "ip",
                &["-4", "monitor", "link", "address", "route", "neigh"][..],
            ),
            ("bridge", &["monitor", "fdb"]),
            ("nft", &["monitor"]),
        ] {
            let log = lab
                .plan()
                .directory()
                .join(format!("{program}-monitor-{node}"));
            let file = std::fs::File::create(&log).unwrap();
            let mut command = Command::new(program);
            let child = host
                .spawn(command.args(arguments).stdout(file).stderr(Stdio::null()))
                .unwrap();
            monitors.push((log, child));
        }
    }
    assert_answered_by(&client, to, &["web1", "web2", "web3"]);
    for node in nodes(&lab) {
        lab.start_agent(&node).unwrap();
        lab.start_proxy(&node).unwrap();
    }
    for node in nodes(&lab) {
        let host = lab.node(&node).unwrap();
        wait_until("flannel-agent to be ready again", || {
            let ready = SocketAddr::from(([127, 0, 0, 1], 10254));
            Ok(host.within(|| http_status(ready, "/readyz"))? == Some(200))
        })
        .unwrap();
    }
    wait_until("every proxy to have read its manifests again", || {
        let logs: Vec<_> = nodes(&lab)
            .iter()
            .map(|node| lab.proxy_log(node).unwrap())
            .collect();
        Ok(logs
            .iter()
            .all(|log| log.matches("first sync").count() == 2))
    })
    .unwrap();
    assert_eq!(leases(&lab), before);
    for node in nodes(&lab) {
        assert_overlay_of(&lab, &node, &before);
    }
    assert_answered_by(&client, to, &["web1", "web2", "web3"]);
    let summary = pings.stop().unwrap();
    assert_eq!(summary.received, summary.sent);
    for (log, mut child) in monitors {
        child.kill().unwrap();
        child.wait().unwrap();
        // What pods learn of each other on cni0 is no change of ours.
        let told = std::fs::read_to_string(&log).unwrap();
        let is_nft = log
            .file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("nft");
        let ours: Vec<_> = told
            .lines()
            .filter(|line| is_nft || line.contains("flannel.1"))
            .collect();
        assert!(ours.is_empty(), "{}: {ours:#?}", log.display());
    }
}

fn http_status(address: SocketAddr, path: &str) -> Option<u16> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).ok()?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.split(' ').nth(1)?.parse().ok()
}

#[test]
fn bad_leases_and_bad_configuration_are_named() {
    let mut lab = empty_lab("bad", 2);
    lab.start_etcd().unwrap();
    lab.write_network_config(r#"{"Network":"10.244.0.0/29","Backend":{"Type":"vxlan"}}"#)
        .unwrap();
    lab.start_agent("node1").unwrap();
    wait_until("the agent to name the bad key", || {
        Ok(lab
            .agent_log("node1")?
            .contains("network is too small. Minimum useful network prefix is /28"))
    })
    .unwrap();
    drop(lab.kill_agent("node1"));

    lab.write_network_config(demo::NETWORK_CONFIG).unwrap();
    lab.etcdctl(&[
        "put",
        &format!("{SUBNETS}/10.244.77.0-24"),
        "{\"PublicIP\":",
    ])
    .unwrap();
    lab.etcdctl(&["put", &format!("{SUBNETS}/rubbish"), "{}"])
        .unwrap();
    for node in nodes(&lab) {
        lab.start_agent(&node).unwrap();
    }
    lab.wait_for_overlay().unwrap();
    for (name, pod) in [("node1", "a"), ("node2", "b")] {
        lab.add_pod(pod, name).unwrap();
    }
    assert_all_pods_reach_each_other(&lab);
    let log = lab.agent_log("node2").unwrap();
    for key in ["10.244.77.0-24", "rubbish"] {
        let lines: Vec<_> = log.lines().filter(|line| line.contains(key)).collect();
        assert_eq!(lines.len(), 1, "{log}");
        assert!(lines[0].contains("WARN"), "{log}");
    }
}

#[test]
fn pods_come_and_go_and_a_lab_leaves_nothing() {
    let mut lab = empty_lab("churn", 2);
    demo::bring_up(&mut lab, &mut std::io::sink()).unwrap();
    let directory = lab.node_plan("node1").unwrap().directory.join("cni");
    let links = |lab: &Lab| {
        lab.node("node1")
            .unwrap()
            .route()
            .unwrap()
            .links()
            .unwrap()
            .len()
    };
    let before = links(&lab);
    for number in 0..5 {
        lab.add_pod(&format!("extra{number}"), "node1").unwrap();
    }
    assert_eq!(links(&lab), before + 5);
    assert_all_pods_reach_each_other(&lab);
    for number in 0..5 {
        lab.delete_pod(&format!("extra{number}")).unwrap();
    }
    wait_until("the pods' links to go", || Ok(links(&lab) == before)).unwrap();
    let addresses = std::fs::read_dir(directory.join("networks/cbr0"))
        .unwrap()
        .filter(|entry| {
            entry
                .as_ref()
                .unwrap()
                .file_name()
                .to_string_lossy()
                .starts_with("10.")
        })
        .count();
    assert_eq!(addresses, 2);
    let name = lab.plan().name.clone();
    let path = lab.plan().directory();
    drop(lab);
    assert!(!Lab::down(&name).unwrap());
    assert!(!path.exists());
}
