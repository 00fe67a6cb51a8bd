//! A node is switched from flannel, its CNI plugins and kube-proxy to ours and back, by the commands of
//! `docs/migration.md`, and no connection is lost.
//!
//! `TWEED_PEERS` names a directory with `flanneld`, `kube-proxy`, `flannel`, `bridge`, `host-local` and `portmap`. For
//! those that are not there, scripts leave the state that they would leave. `TWEED_OLDER` names one with an older release of
//! ours, which is installed first; without it a release is upgraded to itself.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod guide;
mod peers;
mod services;
mod site;
mod talk;

use std::net::SocketAddr;

use lab::{Lab, Plan, Programs};

use crate::{guide::commands, peers::Mode, site::Site, talk::Talk};

const GUIDE: &str = "docs/migration.md";
const OUTSIDE: &str = "10.8.65.1";
const SERVICE: &str = "10.97.97.97:80";

/// Connections from and to the pods of the first node in all directions, and people who make new ones.
struct Traffic(Vec<Talk>);

// === impl Traffic ===

impl Traffic {
    fn start(site: &Site) -> Self {
        let [web1, client1, web2, client2] =
            ["web1", "client1", "web2", "client2"].map(|name| site.pod(name));
        let echo = |address| SocketAddr::new(address, talk::ECHO_PORT);
        let service: SocketAddr = SERVICE.parse().unwrap();
        let node_port: SocketAddr = "10.8.65.11:30080".parse().unwrap();
        let outside = site.lab.fabric();
        let talks = vec![
            Talk::by_one_connection(
                "pod to pod of another node",
                &client1.host,
                echo(web2.address),
            ),
            Talk::by_one_connection(
                "pod to pod of the same node",
                &client1.host,
                echo(web1.address),
            ),
            Talk::by_one_connection(
                "pod of another node to pod",
                &client2.host,
                echo(web1.address),
            ),
            Talk::by_one_connection(
                "pod to outside",
                &client1.host,
                echo(OUTSIDE.parse().unwrap()),
            ),
            Talk::by_one_connection("pod to Service", &client1.host, service),
            Talk::by_one_connection("pod of another node to Service", &client2.host, service),
            Talk::by_one_connection("outside to NodePort", outside, node_port),
            Talk::by_new_connections("pod to Service", &client1.host, service),
            Talk::by_new_connections("outside to NodePort", outside, node_port),
            Talk::by_new_connections(
                "pod to pod of another node",
                &client1.host,
                echo(web2.address),
            ),
        ];
        assert!(web1.address != web2.address && web1.address != client1.address);
        Self(talks)
    }

    /// Waits until everyone has talked again, so that each step is seen by each.
    fn goes_on(&self) {
        for talk in &self.0 {
            talk.goes_on();
        }
    }

    fn end(self) {
        for talk in self.0 {
            talk.end();
        }
    }
}

/// The whole way on two nodes, from kube-proxy in a mode to ours in a mode.
fn there_and_back(theirs: Mode, ours: Mode) {
    let initials = &[theirs, ours].map(|mode| &mode.name()[..3]).concat();
    let name = format!("from{initials}{}", std::process::id());
    let lab = Lab::create(Plan::new(&name, 2).unwrap(), Programs::find().unwrap()).unwrap();
    let mut site = Site::with_peers(lab, theirs, ours);
    for (pod, node) in [
        ("web1", 0),
        ("client1", 0),
        ("early1", 0),
        ("web2", 1),
        ("client2", 1),
    ] {
        site.add_pod(pod, node);
    }
    site.serve("web1");
    site.serve("web2");
    site.serve_outside();
    site.start_kube_proxies();
    let leases = site.leases();
    let traffic = Traffic::start(&site);
    traffic.goes_on();

    // One after the other, so that for a time both are in one cluster.
    for node in [0, 1] {
        let steps = commands(GUIDE, "A machine with systemd, to Tweed");
        for step in steps.iter().filter(|step| ours.takes(step)) {
            site.run(node, step);
            traffic.goes_on();
        }
        site.assert_ours(node);
    }
    assert_eq!(
        site.leases(),
        leases,
        "nodes keep their subnets and addresses"
    );
    upgrade(&site, &traffic);
    // Made by ours beside those of the others, which ours removes.
    site.add_pod("late1", 0);
    site.delete_pod("early1");

    let steps = commands(GUIDE, "A machine with systemd, back");
    for step in steps.iter().filter(|step| ours.takes(step)) {
        site.run(0, step);
        traffic.goes_on();
    }
    site.assert_theirs(0);
    assert_eq!(site.leases(), leases);
    traffic.end();
    if site.has_real_plugins() {
        site.delete_pod("late1");
    }
}

/// Installs over what runs, by the guide of that.
fn upgrade(site: &Site, traffic: &Traffic) {
    let before = site.running(0);
    site.lay_ready(0, &peers::programs());
    for step in commands("docs/upgrade.md", "One node after the other") {
        site.run(0, &step);
        traffic.goes_on();
    }
    let after = site.running(0);
    println!("{before}became\n{after}");
    assert!(
        before
            .lines()
            .zip(after.lines())
            .all(|(one, other)| one != other)
    );
    site.assert_ours(0);
}

#[test]
fn no_connection_is_lost_on_the_way_to_tweed_and_back() {
    there_and_back(Mode::Iptables, Mode::Nftables);
}

#[test]
fn none_is_lost_when_both_are_in_iptables_mode() {
    there_and_back(Mode::Iptables, Mode::Iptables);
}

/// No script stands in for that mode.
#[test]
fn none_is_lost_from_kube_proxys_nftables_mode() {
    if peers::real("kube-proxy").is_some() {
        there_and_back(Mode::Nftables, Mode::Nftables);
    }
}
