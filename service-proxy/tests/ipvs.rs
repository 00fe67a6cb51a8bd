//! Virtual servers: whatever happens in whatever order, the kernel ends up as from a cold start, and what is not
//! ours stays as it is.

#![allow(clippy::unwrap_used)]

mod random;

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use kernel::{
    Family,
    ipvs::{
        self, Change as ServerChange, Flags, ObservedReal, Protocol as Tracked, VirtualAddress,
        VirtualServer,
    },
    nft::{self, Command, ObservedTable, Transaction},
};
use nix::errno::Errno;
use proptest::{collection::vec, prelude::*};
use random::{changes, name};
use service_proxy::{
    dataplane::{
        Dataplane,
        ipvs::{Addresses, Farewell, Kernel, Servers},
    },
    drift::{CannotWatch, Concerns, Drift},
    model::{
        Catalogue, Change, Endpoint, EndpointSlice, ObjectKey, Protocol, Service, ServicePort,
        SlicePort,
    },
    plan::{
        ipvs::{Former, Settings},
        nftables::{IPVS_TABLE, NodeRules},
    },
    reconcile::{Nftables, Outcome},
};

/// The fake kernel, with moods.
#[derive(Clone, Debug, Default)]
struct Machine(Rc<RefCell<State>>);

#[derive(Debug, Default)]
struct State {
    nft: nft::Fake,
    ipvs: ipvs::Fake,
    bound: BTreeSet<IpAddr>,
    /// How many virtual servers the next listing does not tell of.
    hidden: usize,
    /// How many more requests are refused.
    refusals: usize,
    /// What was sent, in its order.
    log: Vec<String>,
}

/// What happens.
#[derive(Clone, Debug)]
enum Step {
    /// Objects change.
    Change(Vec<Change>),
    /// The kernel refuses so many requests.
    Refuse(usize),
    /// Somebody removes a table, which is noticed at once: with it goes what a restart would know of.
    RemoveTable(Family),
    /// Somebody removes the first virtual server.
    RemoveServer,
    /// Somebody removes the first real server of each.
    RemoveReals,
    /// The next listing of virtual servers does not tell of so many.
    Hide(usize),
    /// Somebody takes all addresses away.
    RemoveAddresses,
    /// All connections end.
    Calm,
    /// All real servers have connections.
    Busy,
    /// It is time to look for the end of connections.
    Look,
    /// It is time to compare.
    Resync,
    /// The proxy is killed, and starts again.
    Restart,
}

/// A cluster with a proxy.
struct Cluster {
    objects: BTreeMap<ObjectKey, Change>,
    catalogue: Catalogue,
    machine: Machine,
    servers: Servers<Machine>,
}

// === impl Machine ===

impl Machine {
    fn refuses(&self) -> kernel::Result<()> {
        let mut state = self.0.borrow_mut();
        if state.refusals == 0 {
            return Ok(());
        }
        state.refusals -= 1;
        Err(kernel::Error::new("as told", Errno::EBUSY))
    }

    /// All virtual servers with the weights of their real servers.
    fn virtuals(&self) -> BTreeMap<String, Vec<(SocketAddr, u32)>> {
        let ipvs = &self.0.borrow().ipvs;
        let servers = ipvs.virtual_servers().into_iter().map(|server| {
            let reals = ipvs.real_servers(&server.address).unwrap();
            let reals = reals.iter().map(|it| (it.server.socket, it.server.weight));
            (server.to_string(), reals.collect())
        });
        servers.collect()
    }

    fn set_connections(&self, active: u32) {
        let ipvs = &mut self.0.borrow_mut().ipvs;
        for server in ipvs.virtual_servers() {
            for real in ipvs.real_servers(&server.address).unwrap() {
                ipvs.set_connections(&server.address, real.server.socket, active, 0);
            }
        }
    }

    fn remove_table(&self, family: Family) {
        let nft = &mut self.0.borrow_mut().nft;
        if nft.read(family, IPVS_TABLE).is_some() {
            let transaction = Transaction {
                family: family.into(),
                table: IPVS_TABLE.to_owned(),
                commands: vec![Command::DeleteTable],
            };
            nft.apply(&transaction).unwrap();
        }
    }

    fn remove_server(&self) {
        let ipvs = &mut self.0.borrow_mut().ipvs;
        if let Some(server) = ipvs.virtual_servers().first() {
            let change = ServerChange::DeleteVirtual(server.address);
            ipvs.apply(&[change]).unwrap();
        }
    }

    fn hide(&self, count: usize) {
        self.0.borrow_mut().hidden = count;
    }

    fn remove_reals(&self) {
        let ipvs = &mut self.0.borrow_mut().ipvs;
        for server in ipvs.virtual_servers() {
            if let Some(real) = ipvs.real_servers(&server.address).unwrap().first() {
                let change = ServerChange::DeleteReal(server.address, real.server.socket);
                ipvs.apply(&[change]).unwrap();
            }
        }
    }

    fn tables(&self) -> Vec<String> {
        let nft = &self.0.borrow().nft;
        let tables = Family::ALL
            .iter()
            .filter_map(|it| nft.read(*it, IPVS_TABLE));
        let tables = tables.map(|mut table| {
            table.generation = 0;
            let rules = table.chains.values_mut().flat_map(|chain| &mut chain.rules);
            rules.for_each(|rule| rule.handle = 0);
            // Which slot or number an endpoint has depends on what was before: the packet suite sees them.
            table
                .sets
                .retain(|name, _| !name.contains("endpoints") && !name.contains("session"));
            format!("{table:#?}")
        });
        tables.collect()
    }

    fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.0.borrow_mut().log)
    }
}

impl Nftables for Machine {
    fn read(&mut self, family: Family, table: &str) -> kernel::Result<Option<ObservedTable>> {
        Ok(self.0.borrow().nft.read(family, table))
    }

    fn apply(&mut self, transaction: &Transaction) -> kernel::Result<()> {
        self.refuses()?;
        let mut state = self.0.borrow_mut();
        state.nft.apply(transaction)?;
        state.log.push(transaction.to_string());
        Ok(())
    }

    fn generation(&mut self) -> kernel::Result<u32> {
        Ok(self.0.borrow().nft.generation())
    }
}

impl Kernel for Machine {
    fn virtual_servers(&mut self) -> kernel::Result<Vec<VirtualServer>> {
        let mut state = self.0.borrow_mut();
        let hidden = std::mem::take(&mut state.hidden);
        let servers = state.ipvs.virtual_servers().into_iter();
        Ok(servers.skip(hidden).collect())
    }

    fn real_servers(&mut self, address: &VirtualAddress) -> kernel::Result<Vec<ObservedReal>> {
        self.0.borrow().ipvs.real_servers(address)
    }

    fn change(&mut self, changes: &[ServerChange]) -> kernel::Result<usize> {
        self.refuses()?;
        let mut state = self.0.borrow_mut();
        state.log.extend(changes.iter().map(ToString::to_string));
        state.ipvs.converge(changes)
    }

    fn former(&mut self) -> kernel::Result<Former> {
        Ok(Former::default())
    }

    fn addresses(&mut self) -> kernel::Result<Addresses> {
        let others = ["127.0.0.1", "192.0.2.1", "::1", "fe80::1", "fd00:c0::1"];
        Ok(Addresses {
            bound: self.0.borrow().bound.clone(),
            others: others.map(|it| it.parse().unwrap()).into(),
        })
    }

    fn set_addresses(&mut self, add: &[IpAddr], remove: &[IpAddr]) -> kernel::Result<()> {
        self.refuses()?;
        let mut state = self.0.borrow_mut();
        for address in add {
            state.bound.insert(*address);
            state.log.push(format!("ip address add {address}"));
        }
        for address in remove {
            if !state.bound.remove(address) {
                let attempted = format!("ip address delete {address}");
                return Err(kernel::Error::new(attempted, Errno::EADDRNOTAVAIL));
            }
            state.log.push(format!("ip address delete {address}"));
        }
        Ok(())
    }

    fn watch_with(&self, _: &Concerns) -> Result<Option<Drift>, CannotWatch> {
        Ok(None)
    }
}

// === impl Cluster ===

impl Cluster {
    fn new() -> Self {
        Self::on(Machine::default(), Farewell::default())
    }

    fn on(machine: Machine, farewell: Farewell) -> Self {
        Self {
            objects: BTreeMap::new(),
            catalogue: Catalogue::default(),
            servers: servers(&machine, farewell),
            machine,
        }
    }

    fn change(&mut self, changes: Vec<Change>) -> Outcome {
        self.objects
            .extend(changes.iter().map(|change| (change.key(), change.clone())));
        let services = changes
            .into_iter()
            .flat_map(|change| self.catalogue.apply(change))
            .collect();
        self.servers.update(&self.catalogue, &services)
    }

    /// Puts a proxy in the place of this one that knows nothing but the objects.
    fn restart(&mut self) {
        self.servers = servers(&self.machine, Farewell::default());
        self.catalogue = Catalogue::default();
        drop(self.change(self.objects.values().cloned().collect()));
    }

    /// The kernel is as a proxy would make it that starts now, and there is nothing left to do.
    fn assert_settled(&mut self) {
        self.machine.set_connections(0);
        let ended = self.servers.look();
        assert!(ended.failures.is_empty(), "{ended:?}");
        assert_eq!(self.servers.look_at(), None);
        let mut other = Self::new();
        let outcome = other.change(self.objects.values().cloned().collect());
        assert!(outcome.failures.is_empty(), "{outcome:?}");
        assert_eq!(self.machine.virtuals(), other.machine.virtuals());
        assert_eq!(
            self.machine.0.borrow().bound,
            other.machine.0.borrow().bound
        );
        assert_eq!(self.machine.tables(), other.machine.tables());
        let again = self.servers.resync();
        assert!(
            again.sent.is_empty() && again.failures.is_empty(),
            "{again:?}"
        );
    }
}

fn servers(machine: &Machine, farewell: Farewell) -> Servers<Machine> {
    let settings = Settings {
        scheduler: "rr".into(),
        excluded: vec!["198.51.100.0/24".parse().unwrap()],
    };
    let rules = |_| NodeRules::default();
    Servers::new(machine.clone(), "node1", &settings, farewell, rules)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => changes().prop_map(Step::Change),
        1 => (1..4_usize).prop_map(Step::Refuse),
        1 => prop_oneof![Just(Family::V4), Just(Family::V6)].prop_map(Step::RemoveTable),
        1 => Just(Step::RemoveServer),
        1 => Just(Step::RemoveReals),
        1 => Just(Step::Hide(1)),
        1 => Just(Step::RemoveAddresses),
        1 => Just(Step::Calm),
        2 => Just(Step::Busy),
        1 => Just(Step::Look),
        1 => Just(Step::Resync),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_change_leads_where_a_cold_start_would(batches in vec(changes(), 1..8)) {
        let mut cluster = Cluster::new();
        for batch in batches {
            let outcome = cluster.change(batch);
            prop_assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
            cluster.assert_settled();
        }
    }

    #[test]
    fn trouble_is_overcome(steps in vec(step(), 1..12)) {
        let mut cluster = Cluster::new();
        for step in steps {
            match step {
                Step::Change(changes) => drop(cluster.change(changes)),
                Step::Refuse(times) => cluster.machine.0.borrow_mut().refusals = times,
                Step::RemoveTable(family) => {
                    cluster.machine.remove_table(family);
                    cluster.machine.0.borrow_mut().refusals = 0;
                    drop(cluster.servers.resync());
                }
                Step::RemoveServer => cluster.machine.remove_server(),
                Step::RemoveReals => cluster.machine.remove_reals(),
                Step::Hide(count) => cluster.machine.hide(count),
                Step::RemoveAddresses => cluster.machine.0.borrow_mut().bound.clear(),
                Step::Calm => cluster.machine.set_connections(0),
                Step::Busy => cluster.machine.set_connections(1),
                Step::Look => drop(cluster.servers.look()),
                Step::Resync => drop(cluster.servers.resync()),
                Step::Restart => cluster.restart(),
            }
        }
        cluster.machine.0.borrow_mut().refusals = 0;
        cluster.machine.hide(0);
        cluster.servers.resync();
        cluster.assert_settled();
    }
}

/// A Service of a protocol with a cluster IP and a NodePort, and as many endpoints.
fn web(protocol: Protocol, endpoints: u8) -> Vec<Change> {
    let service = Service {
        name: name("web"),
        cluster_ips: vec!["10.96.0.1".parse().unwrap()],
        ports: vec![ServicePort {
            name: "".into(),
            protocol,
            port: 80,
            node_port: Some(30080),
        }],
        ..Service::default()
    };
    let slice = EndpointSlice {
        triggered: None,
        name: name("web-1"),
        service: name("web"),
        family: Family::V4,
        ports: vec![SlicePort {
            name: "".into(),
            protocol,
            port: 8080,
        }],
        endpoints: (1..=endpoints)
            .map(|host| Endpoint {
                address: [10, 244, 0, host].into(),
                ready: true,
                serving: true,
                terminating: false,
                node: Some("node2".into()),
                hints: None,
            })
            .collect(),
    };
    vec![
        Change::Service(name("web"), Some(Arc::new(service))),
        Change::EndpointSlice(name("web-1"), Some(Arc::new(slice))),
    ]
}

fn weights(machine: &Machine, server: &str) -> Vec<u32> {
    let virtuals = machine.virtuals();
    let reals = virtuals
        .get(server)
        .unwrap_or_else(|| panic!("{virtuals:?}"));
    reals.iter().map(|(_, weight)| *weight).collect()
}

const WEB: &str = "-t 10.96.0.1:80 -s rr";

#[test]
fn rules_stand_before_virtual_servers_and_these_before_addresses() {
    let mut cluster = Cluster::new();
    drop(cluster.change(vec![]));
    cluster.machine.take_log();
    let outcome = cluster.change(web(Protocol::Tcp, 1));
    assert_eq!((outcome.sent.servers, outcome.sent.addresses), (4, 1));
    let log = cluster.machine.take_log();
    assert_eq!(log.len(), 6, "{log:#?}");
    assert!(
        log[0].contains("add element ip tweed-ipvs cluster-ips"),
        "{log:#?}"
    );
    assert!(log[0].contains("virtual-servers"), "{log:#?}");
    let rest = [
        "ipvsadm -A -t 10.96.0.1:80 -s rr",
        "ipvsadm -a -t 10.96.0.1:80 -r 10.244.0.1:8080 -m -w 1",
        "ipvsadm -A -t 192.0.2.1:30080 -s rr",
        "ipvsadm -a -t 192.0.2.1:30080 -r 10.244.0.1:8080 -m -w 1",
        "ip address add 10.96.0.1",
    ];
    assert_eq!(log[1..], rest);

    let gone = vec![Change::Service(name("web"), None)];
    drop(cluster.change(gone));
    cluster.machine.take_log();
    drop(cluster.servers.look());
    let log = cluster.machine.take_log();
    assert_eq!(
        log[..3],
        [
            "ipvsadm -D -t 10.96.0.1:80",
            "ipvsadm -D -t 192.0.2.1:30080",
            "ip address delete 10.96.0.1",
        ]
    );
    assert!(
        log[3].contains("delete element ip tweed-ipvs virtual-servers"),
        "{log:#?}"
    );
}

#[test]
fn a_changed_endpoint_is_one_message_for_each_virtual_server() {
    let mut cluster = Cluster::new();
    drop(cluster.change(web(Protocol::Tcp, 200)));
    let outcome = cluster.change(web(Protocol::Tcp, 201));
    assert_eq!(outcome.sent.servers, 2);
    assert_eq!(outcome.sent.added + outcome.sent.deleted, 0);
}

#[test]
fn tcp_drains_and_what_comes_back_recovers() {
    let mut cluster = Cluster::new();
    drop(cluster.change(web(Protocol::Tcp, 3)));
    cluster.machine.set_connections(1);
    drop(cluster.change(web(Protocol::Tcp, 1)));
    assert_eq!(weights(&cluster.machine, WEB), [1, 0, 0]);
    assert!(cluster.servers.look_at().is_some());
    drop(cluster.servers.look());
    cluster.restart();
    assert_eq!(weights(&cluster.machine, WEB), [1, 0, 0]);
    drop(cluster.change(web(Protocol::Tcp, 2)));
    assert_eq!(weights(&cluster.machine, WEB), [1, 1, 0]);
    cluster.machine.set_connections(0);
    drop(cluster.servers.look());
    assert_eq!(weights(&cluster.machine, WEB), [1, 1]);
    assert_eq!(cluster.servers.look_at(), None);
    cluster.assert_settled();
}

#[test]
fn a_service_that_is_gone_drains_too() {
    let mut cluster = Cluster::new();
    drop(cluster.change(web(Protocol::Tcp, 1)));
    cluster.machine.set_connections(1);
    drop(cluster.change(vec![Change::Service(name("web"), None)]));
    drop(cluster.servers.resync());
    assert_eq!(weights(&cluster.machine, WEB), [0]);
    assert_eq!(cluster.machine.0.borrow().bound.len(), 1);
    cluster.assert_settled();
    assert!(cluster.machine.virtuals().is_empty());
}

#[test]
fn udp_does_not_drain_and_patience_ends() {
    let mut cluster = Cluster::new();
    drop(cluster.change(web(Protocol::Udp, 2)));
    cluster.machine.set_connections(1);
    drop(cluster.change(web(Protocol::Udp, 1)));
    assert_eq!(weights(&cluster.machine, "-u 10.96.0.1:80 -s rr"), [1]);

    let at_once = Farewell {
        patience: Some(Duration::ZERO),
        reset: false,
    };
    let mut cluster = Cluster::on(Machine::default(), at_once);
    drop(cluster.change(web(Protocol::Tcp, 2)));
    cluster.machine.set_connections(1);
    drop(cluster.change(web(Protocol::Tcp, 1)));
    assert_eq!(weights(&cluster.machine, WEB), [1, 0]);
    drop(cluster.servers.look());
    assert_eq!(weights(&cluster.machine, WEB), [1]);
}

/// A listing that is not complete, and others who are faster, are no failures: all is compared again soon.
#[test]
fn others_may_be_faster() {
    let mut cluster = Cluster::new();
    drop(cluster.change(web(Protocol::Tcp, 3)));
    cluster.machine.hide(1);
    let outcome = cluster.servers.resync();
    assert!(outcome.failures.is_empty(), "{outcome:?}");
    assert!(cluster.servers.look_at().is_some());
    cluster.assert_settled();

    cluster.machine.remove_reals();
    let outcome = cluster.change(web(Protocol::Tcp, 0));
    assert!(outcome.failures.is_empty(), "{outcome:?}");
    cluster.machine.remove_server();
    let outcome = cluster.change(vec![Change::Service(name("web"), None)]);
    assert!(outcome.failures.is_empty(), "{outcome:?}");
    cluster.assert_settled();
}

/// An endpoint that serves on its way out keeps its connections, one that has gone loses them at once.
#[test]
fn connections_are_reset_where_that_is_asked_for() {
    let reset = Farewell {
        patience: None,
        reset: true,
    };
    let mut cluster = Cluster::on(Machine::default(), reset);
    drop(cluster.change(web(Protocol::Tcp, 3)));
    cluster.machine.set_connections(1);
    let mut leaving = web(Protocol::Tcp, 2);
    if let Some(Change::EndpointSlice(_, Some(slice))) = leaving.last_mut() {
        let endpoint = &mut Arc::make_mut(slice).endpoints[1];
        (endpoint.ready, endpoint.terminating) = (false, true);
    }
    drop(cluster.change(leaving));
    assert_eq!(weights(&cluster.machine, WEB), [1, 0, 0]);
    drop(cluster.servers.look());
    assert_eq!(weights(&cluster.machine, WEB), [1, 0]);
    drop(cluster.servers.look());
    assert_eq!(weights(&cluster.machine, WEB), [1, 0]);

    drop(cluster.change(web(Protocol::Tcp, 1)));
    cluster.machine.0.borrow_mut().refusals = 1;
    drop(cluster.servers.look());
    drop(cluster.servers.resync());
    assert_eq!(weights(&cluster.machine, WEB), [1]);
    cluster.assert_settled();
}

#[test]
fn sessions_switch_live() {
    let mut cluster = Cluster::new();
    drop(cluster.change(web(Protocol::Tcp, 1)));
    for (affinity, expected) in [(Some(600), "-t 10.96.0.1:80 -s rr -p 600"), (None, WEB)] {
        let Change::Service(name, Some(mut service)) = web(Protocol::Tcp, 1).remove(0) else {
            panic!("no Service");
        };
        Arc::make_mut(&mut service).affinity = affinity.map(Duration::from_secs);
        let outcome = cluster.change(vec![Change::Service(name, Some(service))]);
        assert_eq!(outcome.sent.servers, 2, "{outcome:?}");
        assert_eq!(weights(&cluster.machine, expected), [1]);
    }
}

#[test]
fn what_is_not_ours_stays() {
    let machine = Machine::default();
    let foreign = |socket: &str| VirtualServer {
        address: VirtualAddress {
            protocol: Tracked::Tcp,
            socket: socket.parse().unwrap(),
        },
        scheduler: "wlc".into(),
        flags: Flags::default(),
        timeout: 0,
        client_prefix: 32,
    };
    // Somewhere else, on the node itself, and where it is said not to be touched.
    let others = ["203.0.113.1:80", "192.0.2.1:443", "198.51.100.1:80"].map(foreign);
    // A former kube-proxy's, as its address says.
    let former = foreign("10.96.0.77:80");
    let all = others.iter().chain([&former]).cloned();
    let changes: Vec<_> = all.map(ServerChange::AddVirtual).collect();
    machine.0.borrow_mut().ipvs.apply(&changes).unwrap();
    let bound: [IpAddr; 2] = ["10.96.0.77", "198.51.100.1"].map(|it| it.parse().unwrap());
    machine.0.borrow_mut().bound.extend(bound);
    let mut cluster = Cluster::on(machine, Farewell::default());
    drop(cluster.change(web(Protocol::Tcp, 1)));
    drop(cluster.servers.resync());
    let virtuals = cluster.machine.virtuals();
    assert!(
        others
            .iter()
            .all(|it| virtuals.contains_key(&it.to_string())),
        "{virtuals:?}"
    );
    assert!(!virtuals.contains_key(&former.to_string()), "{virtuals:?}");
    let bound = cluster.machine.0.borrow().bound.clone();
    let expected: [IpAddr; 2] = ["10.96.0.1", "198.51.100.1"].map(|it| it.parse().unwrap());
    assert_eq!(bound, expected.into());
}
