//! Sets and chains beside virtual servers: whatever happens, the kernel ends up as from a cold start, a second look
//! finds nothing to do, and nothing looks up a set that is not there.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code)] // Shared with another test.
#[path = "iptables/tables.rs"]
mod tables;

mod random;

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    rc::Rc,
    sync::Arc,
};

use kernel::{
    Family, ipset,
    ipvs::{self, Change as ServerChange, ObservedReal, VirtualAddress, VirtualServer},
};
use proptest::{collection::vec, prelude::*};
use random::{changes, name};
use service_proxy::{
    dataplane::{
        Dataplane, Failure,
        ipvs::{Addresses, Farewell, Guarding, Kernel, Servers},
    },
    drift::{CannotWatch, Concerns, Drift},
    model::{
        Catalogue, Change, Endpoint, EndpointSlice, ObjectKey, Protocol, Service, ServicePort,
        SlicePort, TrafficPolicy,
    },
    plan::{
        ipvs::{Former, GuardChange, ObservedSets, Record, SetsGuard, Settings},
        nftables::{NodeRules, Pods},
    },
    reconcile::{Outcome, Sent},
};
use tables::Tables;

/// The fake kernel.
#[derive(Clone, Debug, Default)]
struct Machine(Rc<RefCell<State>>);

#[derive(Debug, Default)]
struct State {
    ipvs: ipvs::Fake,
    sets: ipset::Fake,
    tables: BTreeMap<Family, Tables>,
    bound: BTreeSet<IpAddr>,
    /// What was sent, in its order.
    log: Vec<String>,
}

/// A cluster with a proxy.
struct Cluster {
    objects: BTreeMap<ObjectKey, Change>,
    catalogue: Catalogue,
    machine: Machine,
    servers: Servers<Machine, SetsGuard>,
}

// === impl Machine ===

impl Machine {
    /// The members of all sets, by name.
    fn members(&self) -> BTreeMap<String, BTreeSet<String>> {
        let sets = self.0.borrow().sets.sets().into_iter();
        let sets = sets.map(|(name, set)| {
            let ipset::ObservedSet::Known(set) = set else {
                panic!("{name}");
            };
            let members = set.members.iter().map(ToString::to_string);
            (name, members.collect())
        });
        sets.collect()
    }

    fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.0.borrow_mut().log)
    }
}

impl Guarding<SetsGuard> for Machine {
    fn observe(&mut self, family: Family) -> Result<ObservedSets, Failure> {
        let state = self.0.borrow();
        let tables = state.tables.get(&family);
        Ok(ObservedSets {
            sets: state.sets.sets(),
            chains: tables.map(Tables::observed).unwrap_or_default(),
            former: Record::default(),
        })
    }

    fn carry_out(
        &mut self,
        family: Family,
        change: &GuardChange,
        sent: &mut Sent,
    ) -> Result<(), Failure> {
        let mut state = self.0.borrow_mut();
        match change {
            GuardChange::Sets(changes) => {
                sent.added += changes.len();
                state.log.extend(changes.iter().map(ToString::to_string));
                state.sets.apply(changes)?;
            }
            GuardChange::Chains(changes) => {
                sent.others += 1;
                let text = changes.to_string();
                let sets = state.sets.sets();
                let looked_up = text.split("--match-set ").skip(1);
                for rest in looked_up {
                    let name = rest.split(' ').next().unwrap();
                    assert!(sets.contains_key(name), "{name} is not there: {text}");
                }
                let tables = state.tables.entry(family).or_insert_with(Tables::new);
                tables.apply(changes);
                state.log.push(text);
            }
        }
        Ok(())
    }
}

impl Kernel for Machine {
    fn virtual_servers(&mut self) -> kernel::Result<Vec<VirtualServer>> {
        Ok(self.0.borrow().ipvs.virtual_servers())
    }

    fn real_servers(&mut self, address: &VirtualAddress) -> kernel::Result<Vec<ObservedReal>> {
        self.0.borrow().ipvs.real_servers(address)
    }

    fn change(&mut self, changes: &[ServerChange]) -> kernel::Result<usize> {
        let mut state = self.0.borrow_mut();
        state.log.extend(changes.iter().map(ToString::to_string));
        state.ipvs.converge(changes)
    }

    fn former(&mut self) -> kernel::Result<Former> {
        Ok(Former::read(&self.0.borrow().sets.sets()))
    }

    fn addresses(&mut self) -> kernel::Result<Addresses> {
        let others = ["127.0.0.1", "192.0.2.1", "::1", "fd00:c0::1"];
        Ok(Addresses {
            bound: self.0.borrow().bound.clone(),
            others: others.map(|it| it.parse().unwrap()).into(),
        })
    }

    fn set_addresses(&mut self, add: &[IpAddr], remove: &[IpAddr]) -> kernel::Result<()> {
        let mut state = self.0.borrow_mut();
        state.log.extend(add.iter().map(|it| format!("bind {it}")));
        state.bound.extend(add);
        state.bound.retain(|it| !remove.contains(it));
        Ok(())
    }

    fn watch_with(&self, _: &Concerns) -> Result<Option<Drift>, CannotWatch> {
        Ok(None)
    }
}

// === impl Cluster ===

impl Cluster {
    fn on(machine: Machine) -> Self {
        let settings = Settings {
            scheduler: "rr".into(),
            excluded: Vec::new(),
        };
        let rules = |family| {
            let pods = match family {
                Family::V4 => "10.244.0.0/16",
                Family::V6 => "fd00:244::/48",
            };
            NodeRules {
                pods: Some(Pods::Network(pods.parse().unwrap())),
                ..NodeRules::default()
            }
        };
        let guard = |family, rules: &NodeRules| SetsGuard::new(family, rules.clone());
        let farewell = Farewell::default();
        Self {
            objects: BTreeMap::new(),
            catalogue: Catalogue::default(),
            servers: Servers::with(guard, machine.clone(), "node1", &settings, farewell, rules),
            machine,
        }
    }

    fn change(&mut self, changes: Vec<Change>) -> Outcome {
        let keys = changes.iter().map(|change| (change.key(), change.clone()));
        self.objects.extend(keys);
        let services = changes
            .into_iter()
            .flat_map(|change| self.catalogue.apply(change))
            .collect();
        let outcome = self.servers.update(&self.catalogue, &services);
        assert!(outcome.failures.is_empty(), "{outcome:?}");
        outcome
    }

    /// The kernel is as a proxy would make it that starts now, and there is nothing left to do.
    fn assert_settled(&mut self) {
        drop(self.servers.look());
        let mut other = Self::on(Machine::default());
        drop(other.change(self.objects.values().cloned().collect()));
        assert_eq!(self.machine.members(), other.machine.members());
        assert_eq!(
            self.machine.0.borrow().tables,
            other.machine.0.borrow().tables
        );
        let again = self.servers.resync();
        assert!(
            again.sent.is_empty() && again.failures.is_empty(),
            "{again:?}: {:#?}",
            self.machine.take_log()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_change_leads_where_a_cold_start_would(batches in vec(changes(), 1..8)) {
        let mut cluster = Cluster::on(Machine::default());
        for batch in batches {
            drop(cluster.change(batch));
            cluster.assert_settled();
        }
    }

    /// As after a restart, or when others have changed what is ours.
    #[test]
    fn what_stands_becomes_what_should(before in vec(changes(), 1..4), after in changes()) {
        let machine = Machine::default();
        let mut first = Cluster::on(machine.clone());
        for batch in before {
            drop(first.change(batch));
        }
        let mut second = Cluster::on(machine);
        drop(second.change(after));
        second.assert_settled();
    }
}

/// A Service with all kinds of addresses.
fn front(external: TrafficPolicy, hosts: &[(u8, &str)]) -> Vec<Change> {
    let service = Service {
        name: name("front"),
        cluster_ips: vec!["10.96.0.1".parse().unwrap()],
        external_ips: vec!["203.0.113.1".parse().unwrap()],
        load_balancer_ips: vec!["203.0.113.2".parse().unwrap()],
        source_ranges: ["198.51.100.0/24", "203.0.113.2/32"]
            .map(|it| it.parse().unwrap())
            .into(),
        external,
        health_check_node_port: (external == TrafficPolicy::Local).then_some(32000),
        ports: vec![ServicePort {
            name: "".into(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: Some(30080),
        }],
        ..Service::default()
    };
    let endpoints = hosts.iter().map(|(host, node)| Endpoint {
        address: [10, 244, 0, *host].into(),
        ready: true,
        serving: true,
        terminating: false,
        node: Some((*node).into()),
        hints: None,
    });
    let slice = EndpointSlice {
        triggered: None,
        name: name("front-1"),
        service: name("front"),
        family: Family::V4,
        ports: vec![SlicePort {
            name: "".into(),
            protocol: Protocol::Tcp,
            port: 8080,
        }],
        endpoints: endpoints.collect(),
    };
    vec![
        Change::Service(name("front"), Some(Arc::new(service))),
        Change::EndpointSlice(name("front-1"), Some(Arc::new(slice))),
    ]
}

/// What a Service puts into sets, by policy and by where its endpoints are.
#[test]
fn the_table_of_members() {
    use TrafficPolicy::{Cluster as Anywhere, Local};
    let expected = |extra: &[(&str, &[&str])]| {
        let always: [(&str, &[&str]); 7] = [
            ("KUBE-CLUSTER-IP", &["10.96.0.1,tcp:80"]),
            ("KUBE-LOAD-BALANCER", &["203.0.113.2,tcp:80"]),
            ("KUBE-LOAD-BALANCER-FW", &["203.0.113.2,tcp:80"]),
            (
                "KUBE-LOAD-BALANCER-SOURCE-CIDR",
                &["203.0.113.2,tcp:80,198.51.100.0/24"],
            ),
            (
                "KUBE-LOAD-BALANCER-SOURCE-IP",
                &["203.0.113.2,tcp:80,203.0.113.2"],
            ),
            ("KUBE-NODE-PORT-TCP", &["30080"]),
            (
                "KUBE-IPVS-IPS",
                &["10.96.0.1", "203.0.113.1", "203.0.113.2"],
            ),
        ];
        let sets = always.iter().chain(extra);
        let sets = sets.map(|(name, members)| {
            let members = members.iter().map(|it| (*it).to_owned());
            ((*name).to_owned(), members.collect::<BTreeSet<_>>())
        });
        sets.collect::<BTreeMap<_, _>>()
    };
    let all = [
        "10.96.0.1,tcp:80",
        "192.0.2.1,tcp:30080",
        "203.0.113.1,tcp:80",
        "203.0.113.2,tcp:80",
    ];
    let external: &[(&str, &[&str])] = &[("KUBE-EXTERNAL-IP", &["203.0.113.1,tcp:80"])];
    let local: &[(&str, &[&str])] = &[
        ("KUBE-EXTERNAL-IP-LOCAL", &["203.0.113.1,tcp:80"]),
        ("KUBE-LOAD-BALANCER-LOCAL", &["203.0.113.2,tcp:80"]),
        ("KUBE-NODE-PORT-LOCAL-TCP", &["30080"]),
        ("KUBE-HEALTH-CHECK-NODE-PORT", &["32000"]),
    ];
    let here: &[(&str, &[&str])] = &[("KUBE-LOOP-BACK", &["10.244.0.1,tcp:8080,10.244.0.1"])];
    let elsewhere: &[(&str, &[&str])] = &[("KUBE-NO-LOCAL-ENDPOINTS", &all[1..])];
    let nowhere: &[(&str, &[&str])] = &[("KUBE-NO-ENDPOINTS", &all)];
    for (policy, hosts, extra) in [
        (Anywhere, &[(1, "node1")][..], [external, here]),
        (Anywhere, &[(1, "node2")], [external, &[]]),
        (Anywhere, &[], [external, nowhere]),
        (Local, &[(1, "node1"), (2, "node2")], [local, here]),
        (Local, &[(1, "node2")], [local, elsewhere]),
        (Local, &[], [local, nowhere]),
    ] {
        let mut cluster = Cluster::on(Machine::default());
        drop(cluster.change(front(policy, hosts)));
        let mut members = cluster.machine.members();
        members.remove("KUBE-IPVS-SERVERS");
        members.retain(|_, members| !members.is_empty());
        let expected = expected(&extra.concat());
        assert_eq!(members, expected, "{policy:?} {hosts:?}");
    }
}

/// kube-proxy makes its rules last (kubernetes#133773).
#[test]
fn sets_and_chains_stand_before_virtual_servers_and_these_before_addresses() {
    let mut cluster = Cluster::on(Machine::default());
    drop(cluster.change(front(TrafficPolicy::Local, &[(1, "node1"), (2, "node2")])));
    let log = cluster.machine.take_log();
    let last = |what: &str| log.iter().rposition(|it| it.starts_with(what)).unwrap();
    let first = |what: &str| log.iter().position(|it| it.starts_with(what)).unwrap();
    assert!(
        last("ipset add KUBE-CLUSTER-IP") < first("ipvsadm"),
        "{log:#?}"
    );
    assert!(first("*") < first("ipvsadm"), "{log:#?}");
    assert!(last("ipvsadm") < first("bind"), "{log:#?}");
    drop(cluster.change(front(TrafficPolicy::Local, &[(2, "node2")])));
    let log = cluster.machine.take_log();
    let first = |what: &str| log.iter().position(|it| it.starts_with(what)).unwrap();
    assert!(
        first("ipset add KUBE-NO-LOCAL") < first("ipvsadm"),
        "{log:#?}"
    );
    assert!(
        first("ipvsadm") < first("ipset del KUBE-LOOP-BACK"),
        "{log:#?}"
    );
}

#[test]
fn a_changed_endpoint_costs_its_own_members() {
    let mut cluster = Cluster::on(Machine::default());
    let hosts: Vec<_> = (1..=100).map(|host| (host, "node1")).collect();
    drop(cluster.change(front(TrafficPolicy::Cluster, &hosts)));
    let outcome = cluster.change(front(TrafficPolicy::Cluster, &hosts[..99]));
    // One virtual server for each address; one pair of an endpoint with itself.
    assert_eq!((outcome.sent.servers, outcome.sent.added), (4, 1));
    assert_eq!(outcome.sent.others, 0);
}
