//! What following the API costs: system calls for a change, memory for a cluster. Larger runs by the environment:
//!
//! ```text
//! TWEED_CHANGES=1000 cargo test -p service-proxy --test kube -- --nocapture few_messages
//! TWEED_SERVICES=10000 TWEED_PROXY=target/release/service-proxy \
//!     cargo test -p service-proxy --test kube -- --nocapture memory
//! ```

use std::{
    env, fs,
    net::Ipv4Addr,
    process::{Child, Command, Stdio},
};

use lab::apiserver::{ApiServer, Server};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::node::{NAMESPACE, Proxy, eventually, eventually_served_by, on_node, service, slice};

/// A running strace that ends with its process.
struct Strace(Child);

// === impl Strace ===

impl Strace {
    fn attach(process: u32, output: &str) -> Self {
        let strace = Command::new("strace")
            .args([
                "-f",
                "-qq",
                "-e",
                "trace=execve,sendmsg,sendto",
                "-o",
                output,
            ])
            .args(["-p", &process.to_string()])
            .stdin(Stdio::null())
            .spawn();
        let strace = Self(strace.unwrap());
        let traced = || {
            let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
            !status.contains("TracerPid:\t0\n")
        };
        eventually(|| "strace to be attached", traced);
        strace
    }

    fn detach(mut self) {
        let pid = Pid::from_raw(self.0.id().try_into().unwrap());
        kill(pid, Signal::SIGINT).unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // It has ended by itself, unless the test has failed.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn number(variable: &str, usual: usize) -> usize {
    let given = env::var(variable).ok();
    given.map_or(usual, |text| text.parse().unwrap())
}

/// Memory that is resident, and of that what is the program's own and not of a file, in KiB.
fn resident(process: u32) -> (usize, usize) {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let field = |name: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    (field("VmRSS:"), field("RssAnon:"))
}

/// A Service of many, and its slice with ten endpoints, as large as real ones are.
fn one_of_many(number: usize) -> [Value; 2] {
    let address = |base: u32, offset: usize| Ipv4Addr::from(base + u32::try_from(offset).unwrap());
    let cluster_ip = address(0x0a60_8000, number).to_string();
    let name = format!("service-{number:05}");
    let endpoints = (0..10).map(|index| {
        json!({
            "addresses": [address(0x0b00_0000, number * 10 + index).to_string()],
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "nodeName": format!("node-{:04}", (number * 7 + index) % 1000),
            "targetRef": {"kind": "Pod", "name": format!("{name}-{index}"), "namespace": NAMESPACE},
            "zone": "zone-a",
        })
    });
    let endpoints: Vec<_> = endpoints.collect();
    [
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": name}},
            "spec": {
                "clusterIP": cluster_ip, "clusterIPs": [cluster_ip],
                "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
            },
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": format!("{name}-abcde"), "namespace": NAMESPACE,
                "labels": {"kubernetes.io/service-name": name},
            },
            "addressType": "IPv4",
            "endpoints": endpoints,
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        }),
    ]
}

#[test]
fn a_change_costs_few_messages_and_starts_no_program() {
    if Command::new("strace").arg("-V").output().is_err() {
        println!("strace is not installed: not measured");
        return;
    }
    on_node(|| {
        let server = Server::StandIn(ApiServer::start().unwrap());
        server.apply(service(1)).unwrap();
        server.apply(slice(1, &[1, 2])).unwrap();
        let proxy = Proxy::start(&server, &[]);
        let directory = tempfile::tempdir().unwrap();
        let output = directory.path().join("strace");
        let syncs = || proxy.log().matches("Services changed").count();
        // What the start still has to do, which takes programs of iptables, is done when a change is followed.
        server.apply(slice(1, &[2])).unwrap();
        eventually(|| "a first change", || syncs() > 0);
        let strace = Strace::attach(proxy.id(), output.to_str().unwrap());
        let changes = number("TWEED_CHANGES", 100);
        for change in 0..changes {
            let before = syncs();
            let endpoints: &[u8] = if change.is_multiple_of(2) {
                &[1, 2, 3]
            } else {
                &[1, 2]
            };
            server.apply(slice(1, endpoints)).unwrap();
            eventually(|| format!("change {change}"), || syncs() > before);
        }
        strace.detach();
        let calls = fs::read_to_string(output).unwrap();
        let netlink = calls
            .lines()
            .filter(|line| line.contains("NETLINK"))
            .count();
        println!(
            "{changes} changes: {netlink} netlink messages sent, {} other messages, {} programs started",
            calls.lines().filter(|line| line.contains("send")).count() - netlink,
            calls.matches("execve").count()
        );
        assert_eq!(calls.matches("execve").count(), 0, "{calls}");
        assert!(netlink <= 5 * changes, "{calls}");
        eventually_served_by(
            1,
            if changes.is_multiple_of(2) {
                &[1, 2]
            } else {
                &[1, 2, 3]
            },
        );
    });
}

#[test]
fn memory_is_small_and_does_not_grow_by_listing_anew() {
    on_node(|| {
        let services = number("TWEED_SERVICES", 300);
        let server = ApiServer::start().unwrap();
        for object in (0..services).flat_map(one_of_many) {
            server.apply(object).unwrap();
        }
        let server = Server::StandIn(server);
        let proxy = Proxy::start(&server, &["--sync-period=5s"]);
        let (all, own) = resident(proxy.id());
        println!(
            "{services} Services x 10 endpoints: resident {all} KiB, {own} KiB of that anonymous"
        );
        for round in 1..=3 {
            let stand_in = server.stand_in().unwrap();
            stand_in.compact();
            stand_in.faults().expire_watches();
            let again = || proxy.log().matches("everything is followed again").count() >= round;
            eventually(|| format!("list {round}"), again);
        }
        // What listing took for once is given back with the next comparison.
        let (limit, later) = (own + own / 2 + 8 * 1024, || resident(proxy.id()).1);
        eventually(
            || format!("{} KiB to be no more than {limit}", later()),
            || later() <= limit,
        );
        println!("after 3 lists: {} KiB anonymous", later());
    });
}
