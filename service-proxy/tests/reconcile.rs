//! Whatever happens in whatever order, the kernel ends up as from a cold start.

#![allow(clippy::unwrap_used)]

mod random;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    rc::Rc,
    sync::Arc,
    thread,
    time::Duration,
};

use kernel::{
    Family,
    nft::{
        Command, Data, Element, Fake, Handle, ObservedSet, ObservedTable, TableFamily, Transaction,
        Value,
    },
};
use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
};
use proptest::{collection::vec, prelude::*};
use random::{changes, name};
use service_proxy::{
    model::{
        Catalogue, Change, Endpoint, EndpointSlice, ObjectKey, ObjectName, Protocol, Service,
        ServicePort, SlicePort,
    },
    plan::nftables::{NodePortAddresses, NodeRules, Pods, TABLE},
    reconcile::{Nftables, Outcome, Reconciler},
};

/// IPv4 by networks, IPv6 by default.
fn rules(family: Family) -> NodeRules {
    let network = |text: &str| text.parse().unwrap();
    match family {
        Family::V4 => NodeRules {
            pods: Some(Pods::Network(network("10.244.0.0/16"))),
            masquerade_all: false,
            node_ports: NodePortAddresses::In(["192.0.2.0/24", "192.0.2.1/32"].map(network).into()),
            ..NodeRules::default()
        },
        Family::V6 => NodeRules::default(),
    }
}

/// The fake kernel, with moods.
#[derive(Clone, Debug, Default)]
struct Kernel(Rc<RefCell<State>>);

#[derive(Debug, Default)]
struct State {
    fake: Fake,
    /// How many more transactions are refused.
    refusals: usize,
    /// The one that is refused, counted from the first.
    refused: Option<usize>,
    /// How often a table was read.
    reads: usize,
    /// Those that were carried out.
    applied: Vec<Transaction>,
}

/// What happens.
#[derive(Clone, Debug)]
enum Step {
    /// Objects change.
    Change(Vec<Change>),
    /// The kernel refuses so many transactions.
    Refuse(usize),
    /// Somebody removes a table.
    Remove(Family),
    /// It is time to look.
    Resync,
    /// The proxy is killed, and starts again.
    Restart,
}

/// A cluster with a proxy.
struct Cluster {
    objects: BTreeMap<ObjectKey, Change>,
    catalogue: Catalogue,
    kernel: Kernel,
    reconciler: Reconciler<Kernel>,
    /// What numbers of endpoints in sessions stand for, or have stood for.
    numbers: BTreeMap<(TableFamily, u32), (u32, String)>,
}

// === impl Kernel ===

impl Nftables for Kernel {
    fn read(&mut self, family: Family, table: &str) -> kernel::Result<Option<ObservedTable>> {
        let mut state = self.0.borrow_mut();
        state.reads += 1;
        Ok(state.fake.read(family, table))
    }

    fn apply(&mut self, transaction: &Transaction) -> kernel::Result<()> {
        let mut state = self.0.borrow_mut();
        if state.refusals > 0 {
            state.refusals -= 1;
            return Err(kernel::Error::new("as told", Errno::EBUSY));
        }
        if state.refused == Some(state.applied.len()) {
            state.refused = None;
            return Err(kernel::Error::new("as told", Errno::EBUSY));
        }
        state.fake.apply(transaction)?;
        state.applied.push(transaction.clone());
        Ok(())
    }

    fn generation(&mut self) -> kernel::Result<u32> {
        Ok(self.0.borrow().fake.generation())
    }
}

impl Kernel {
    /// What stands in it, without what counts changes.
    fn tables(&self) -> Vec<ObservedTable> {
        let fake = &self.0.borrow().fake;
        let tables = Family::ALL
            .iter()
            .filter_map(|family| fake.read(*family, TABLE));
        tables.map(without_numbering).collect()
    }

    /// Somebody changes a table of their own.
    fn disturb(&self) {
        let other = |command| Transaction {
            family: TableFamily::Inet,
            table: "other".to_owned(),
            commands: vec![command],
        };
        let fake = &mut self.0.borrow_mut().fake;
        fake.apply(&other(Command::AddTable)).unwrap();
        fake.apply(&other(Command::DeleteTable)).unwrap();
    }

    fn remove(&self, family: Family) {
        let fake = &mut self.0.borrow_mut().fake;
        if fake.read(family, TABLE).is_some() {
            let table = TABLE.to_owned();
            let commands = vec![Command::DeleteTable];
            fake.apply(&Transaction {
                family: family.into(),
                table,
                commands,
            })
            .unwrap();
        }
    }
}

// === impl Cluster ===

impl Cluster {
    fn new() -> Self {
        let kernel = Kernel::default();
        Self {
            objects: BTreeMap::new(),
            catalogue: Catalogue::default(),
            reconciler: Reconciler::new(kernel.clone(), "node1", rules),
            kernel,
            numbers: BTreeMap::new(),
        }
    }

    fn change(&mut self, changes: Vec<Change>) -> Outcome {
        self.objects
            .extend(changes.iter().map(|change| (change.key(), change.clone())));
        let services = changes
            .into_iter()
            .flat_map(|change| self.catalogue.apply(change))
            .collect();
        self.reconciler.update(&self.catalogue, &services)
    }

    /// Puts a proxy in the place of this one that knows nothing but the objects.
    fn restart(&mut self) {
        self.reconciler = Reconciler::new(self.kernel.clone(), "node1", rules);
        self.catalogue = Catalogue::default();
        drop(self.change(self.objects.values().cloned().collect()));
    }

    /// What a proxy would make of the same objects that starts now.
    fn cold_start(&self) -> Vec<ObservedTable> {
        let mut other = Self::new();
        let outcome = other.change(self.objects.values().cloned().collect());
        assert!(outcome.failures.is_empty());
        other.kernel.tables()
    }

    fn assert_settled(&mut self) {
        assert_eq!(
            renumbered(self.kernel.tables()),
            renumbered(self.cold_start())
        );
        // Whoever has changed something: now everything is read.
        self.kernel.disturb();
        let again = self.reconciler.resync();
        assert!(
            again.sent.is_empty() && again.failures.is_empty(),
            "{again:?}"
        );
        self.assert_numbers_are_used_once();
    }

    /// A number that a session may have never comes to stand for another endpoint. It may for its own again,
    /// where another Service had the address for a while.
    fn assert_numbers_are_used_once(&mut self) {
        for table in self.kernel.tables() {
            for (number, end) in Numbering::of(&table).endpoints {
                let number = (table.family, number);
                let known = self.numbers.entry(number).or_insert(end.clone());
                assert_eq!(*known, end, "{number:?}");
            }
        }
    }
}

/// What numbers of sessions stand for.
struct Numbering {
    services: BTreeMap<u32, String>,
    /// With the Service port that they are of.
    endpoints: BTreeMap<u32, (u32, String)>,
}

// === impl Numbering ===

impl Numbering {
    fn of(table: &ObservedTable) -> Self {
        let mut services = BTreeMap::new();
        for set in ["session-services", "node-port-session-services"] {
            for (key, element) in elements(table, set) {
                services
                    .entry(number(element))
                    .or_insert(format!("{key:?}"));
            }
        }
        let mut sockets = BTreeMap::new();
        for set in ["session-endpoints", "local-session-endpoints"] {
            for (key, element) in elements(table, set) {
                sockets.insert(key[1].clone(), format!("{:?}", element.data));
            }
        }
        let mut endpoints = BTreeMap::new();
        for set in ["session-slots", "local-session-slots"] {
            for (key, element) in elements(table, set) {
                let Value::Mark(service) = key[0] else {
                    panic!("{key:?}");
                };
                let number = number(element);
                let end = (service, sockets[&Value::Mark(number)].clone());
                assert_eq!(endpoints.entry(number).or_insert(end.clone()), &end);
            }
        }
        assert_eq!(endpoints.len(), sockets.len());
        Self {
            services,
            endpoints,
        }
    }
}

fn elements<'a>(
    table: &'a ObservedTable,
    set: &str,
) -> impl Iterator<Item = (&'a Vec<Value>, &'a Element)> {
    match &table.sets[set] {
        ObservedSet::Known(set) => set.elements.iter(),
        ObservedSet::Foreign => panic!("{set} is foreign"),
    }
}

/// The number that a map of numbers has for a key.
fn number(element: &Element) -> u32 {
    match element.data.as_ref() {
        Some(Data::Value(values)) => match values[..] {
            [Value::Mark(0), Value::Mark(number)] => number,
            _ => panic!("{element:?}"),
        },
        _ => panic!("{element:?}"),
    }
}

/// Takes the sets of sessions out, and answers with what they say without saying which numbers and slots.
fn without_numbers(table: &mut ObservedTable) -> Vec<String> {
    let Numbering {
        services,
        endpoints,
    } = Numbering::of(table);
    let said_of = |number: &u32| {
        let (service, end) = &endpoints[number];
        format!("{} {end}", services[service])
    };
    let mut said = Vec::new();
    for (name, set) in &table.sets {
        let ObservedSet::Known(set) = set else {
            panic!("{set:?}");
        };
        for (key, element) in set.elements.iter().filter(|_| name.contains("session")) {
            said.push(match key[..] {
                [Value::Mark(service), Value::Mark(_)] => {
                    let end = said_of(&number(element));
                    format!("{name} {} {end}", services[&service])
                }
                [Value::Protocol(protocol), Value::Mark(number)] => {
                    format!("{name} {protocol} {}", said_of(&number))
                }
                _ => format!("{name} {key:?} {}", services[&number(element)]),
            });
        }
    }
    table.sets.retain(|name, _| !name.contains("session"));
    said.sort();
    said
}

/// A table without what the kernel numbers in the order of changes.
fn without_numbering(mut table: ObservedTable) -> ObservedTable {
    table.generation = 0;
    let rules = table.chains.values_mut().flat_map(|chain| &mut chain.rules);
    rules.for_each(|rule| rule.handle = 0);
    table
}

/// The tables with endpoints in slots by their own order: which slot an endpoint has depends on what was
/// before. Fails where slots have gaps.
fn renumbered(mut tables: Vec<ObservedTable>) -> (Vec<ObservedTable>, Vec<Vec<String>>) {
    let sessions = tables.iter_mut().map(without_numbers).collect();
    for table in &mut tables {
        let sets = table.sets.iter_mut();
        for (_, set) in
            sets.filter(|(name, _)| name.ends_with("endpoints") && *name != "no-endpoints")
        {
            let ObservedSet::Known(set) = set else {
                panic!("{set:?}");
            };
            let mut endpoints: BTreeMap<_, Vec<_>> = BTreeMap::new();
            for (mut key, element) in std::mem::take(&mut set.elements) {
                let slot = key.pop();
                let known = endpoints.entry(key).or_default();
                assert_eq!(slot, Some(Value::Number(known.len().try_into().unwrap())));
                known.push(element);
            }
            for (key, mut elements) in endpoints {
                elements.sort_by_key(|element| format!("{element:?}"));
                for (slot, element) in (0..).zip(elements) {
                    let key = [&key[..], &[Value::Number(slot)]].concat();
                    set.elements.insert(key, element);
                }
            }
        }
    }
    (tables, sessions)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => changes().prop_map(Step::Change),
        1 => (1..4_usize).prop_map(Step::Refuse),
        1 => prop_oneof![Just(Family::V4), Just(Family::V6)].prop_map(Step::Remove),
        1 => Just(Step::Resync),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #[test]
    fn every_change_leads_where_a_cold_start_would(batches in vec(changes(), 1..12)) {
        let mut cluster = Cluster::new();
        for batch in batches {
            let outcome = cluster.change(batch);
            prop_assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
            cluster.assert_settled();
        }
    }

    #[test]
    fn trouble_is_overcome(steps in vec(step(), 1..16)) {
        let mut cluster = Cluster::new();
        for step in steps {
            match step {
                Step::Change(changes) => drop(cluster.change(changes)),
                Step::Refuse(times) => cluster.kernel.0.borrow_mut().refusals = times,
                Step::Remove(family) => cluster.kernel.remove(family),
                Step::Resync => drop(cluster.reconciler.resync()),
                Step::Restart => cluster.restart(),
            }
        }
        cluster.kernel.0.borrow_mut().refusals = 0;
        cluster.reconciler.resync();
        cluster.assert_settled();
    }
}

/// A Service with so many endpoints in slices of a thousand, as the endpoint controller writes them at most.
fn large(number: u16, endpoints: u32) -> Vec<Change> {
    let service = name(format!("large{number}"));
    let port = |port| ServicePort {
        name: "".into(),
        protocol: Protocol::Tcp,
        port,
        node_port: None,
    };
    let address = |host: u32| {
        IpAddr::from(Ipv4Addr::from(
            u32::from(Ipv4Addr::new(10, 0, 0, 100)) + host,
        ))
    };
    let slices = (0..endpoints.div_ceil(1000)).map(|part| EndpointSlice {
        triggered: None,
        name: name(format!("large{number}-{part}")),
        service: service.clone(),
        family: Family::V4,
        ports: vec![SlicePort {
            name: "".into(),
            protocol: Protocol::Tcp,
            port: 80,
        }],
        endpoints: (part * 1000..endpoints.min((part + 1) * 1000))
            .map(|host| Endpoint {
                address: address(host),
                ready: true,
                serving: true,
                terminating: false,
                node: Some("node2".into()),
                hints: None,
            })
            .collect(),
    });
    let mut changes: Vec<_> = slices
        .map(|slice| Change::EndpointSlice(slice.name.clone(), Some(Arc::new(slice))))
        .collect();
    let service = Service {
        name: service,
        cluster_ips: vec![
            Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 0, 0)) + u32::from(number)).into(),
        ],
        ports: vec![port(80)],
        ..Service::default()
    };
    changes.push(Change::Service(
        service.name.clone(),
        Some(Arc::new(service)),
    ));
    changes
}

/// Against the real kernel, in a namespace that ends with the thread.
#[test]
fn a_set_that_is_outgrown_is_made_anew_and_stays_large() {
    let work = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let mut catalogue = Catalogue::default();
        let mut reconciler =
            Reconciler::new(Handle::open().unwrap(), "node1", |_| NodeRules::default());
        let mut kernel = Handle::open().unwrap();
        let mut change = |changes: Vec<Change>| {
            let services = changes
                .into_iter()
                .flat_map(|change| catalogue.apply(change))
                .collect();
            let outcome = reconciler.update(&catalogue, &services);
            assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
            let again = reconciler.resync();
            assert!(
                again.sent.is_empty() && again.failures.is_empty(),
                "{again:?}"
            );
            match &kernel.read(Family::V4, TABLE).unwrap().unwrap().sets["endpoints"] {
                ObservedSet::Known(set) => (set.size, set.elements.len()),
                ObservedSet::Foreign => panic!("foreign"),
            }
        };
        assert_eq!(change(large(0, 20_000)), (1 << 16, 20_000));
        assert_eq!(change(large(1, 20_000)), (1 << 17, 40_000));
        assert_eq!(
            change(vec![Change::Service(name("large1"), None)]),
            (1 << 17, 20_000)
        );
    };
    thread::spawn(work).join().unwrap();
}

#[test]
fn a_change_costs_what_it_changes() {
    let mut cluster = Cluster::new();
    for number in 0..50 {
        cluster.change(large(number, 10));
    }
    // One endpoint more: its slot, and the way to eleven slots instead of ten.
    let outcome = cluster.change(large(7, 11));
    assert_eq!(
        (
            outcome.sent.added,
            outcome.sent.deleted,
            outcome.sent.others
        ),
        (2, 1, 1)
    );
    assert!(cluster.change(large(7, 11)).sent.is_empty());

    // The first of eleven goes: the last has its slot now, and there are ten slots again.
    let mut less = large(7, 11);
    if let Change::EndpointSlice(_, Some(slice)) = &mut less[0] {
        Arc::get_mut(slice).unwrap().endpoints.remove(0);
    }
    let outcome = cluster.change(less);
    assert_eq!((outcome.sent.added, outcome.sent.deleted), (2, 3));
    let before = cluster.kernel.tables();

    // A proxy that starts now takes over the slots as they are.
    let mut next = Cluster::new();
    next.kernel = cluster.kernel.clone();
    next.reconciler = Reconciler::new(cluster.kernel.clone(), "node1", rules);
    let outcome = next.change(cluster.objects.values().cloned().collect());
    assert!(outcome.sent.is_empty(), "{outcome:?}");
    assert_eq!(next.kernel.tables(), before);
}

#[test]
fn services_with_one_address_are_told_of_once() {
    let mut cluster = Cluster::new();
    let same = |number: u16| {
        let mut changes = large(number, 1);
        if let Some(Change::Service(_, Some(service))) = changes.last_mut() {
            Arc::get_mut(service).unwrap().cluster_ips = vec![Ipv4Addr::new(10, 96, 1, 1).into()];
        }
        changes
    };
    assert_eq!(cluster.change(same(2)).contests, []);
    let contests = cluster.change(same(1)).contests;
    let told: Vec<_> = contests.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 1);
    assert!(
        told[0].starts_with(
            "10.96.1.1 TCP port 80 is of Service default/large1 and of default/large2 too"
        ),
        "{told:?}"
    );
    assert_eq!(cluster.change(same(1)).contests, []);
    let more = vec![large(2, 2).remove(0)];
    assert_eq!(cluster.change(more).contests, []);
}

/// The number that the only endpoint of the only Service with sessions has.
fn only_number(cluster: &Cluster) -> u32 {
    let numberings = cluster
        .kernel
        .tables()
        .iter()
        .map(Numbering::of)
        .collect::<Vec<_>>();
    let numbers: Vec<_> = numberings
        .iter()
        .flat_map(|one| one.endpoints.keys())
        .collect();
    assert_eq!(numbers.len(), 1);
    *numbers[0]
}

/// One endpoint whose clients keep it.
fn kept(number: u16, affinity: bool) -> Vec<Change> {
    let mut changes = large(number, 1);
    if let Some(Change::Service(_, Some(service))) = changes.last_mut() {
        let service = Arc::get_mut(service).unwrap();
        service.cluster_ips = vec![Ipv4Addr::new(10, 96, 1, 1).into()];
        service.affinity = affinity.then_some(Duration::from_secs(60));
    }
    changes
}

/// What somebody else's mistake costs a Service: nothing that lasts.
#[test]
fn sessions_outlive_another_service_with_their_address() {
    let mut cluster = Cluster::new();
    cluster.change(kept(1, true));
    let number = only_number(&cluster);
    cluster.change(kept(0, false));
    cluster.change(vec![Change::Service(name("large0"), None)]);
    assert_eq!(only_number(&cluster), number);
    cluster.assert_settled();
}

/// A session with an endpoint that has gone leads nowhere, also when one with its address comes.
#[test]
fn an_endpoint_that_comes_back_is_another() {
    let mut cluster = Cluster::new();
    let changes = kept(1, true);
    cluster.change(changes.clone());
    let number = only_number(&cluster);
    cluster.change(vec![Change::EndpointSlice(name("large1-0"), None)]);
    cluster.change(vec![changes[0].clone()]);
    assert_ne!(only_number(&cluster), number);
    cluster.assert_settled();
}

/// The same Service under another name.
fn renamed(mut changes: Vec<Change>, to: &ObjectName) -> Vec<Change> {
    for change in &mut changes {
        match change {
            Change::Service(name, Some(service)) => {
                Arc::get_mut(service).unwrap().name = to.clone();
                *name = to.clone();
            }
            Change::EndpointSlice(name, Some(slice)) => {
                let slice = Arc::get_mut(slice).unwrap();
                slice.service = to.clone();
                slice.name.namespace.clone_from(&to.namespace);
                *name = slice.name.clone();
            }
            _ => {}
        }
    }
    changes
}

/// The addresses of Services that a transaction makes work.
fn started(transaction: &Transaction) -> Vec<Value> {
    let elements: Vec<_> = transaction
        .commands
        .iter()
        .filter_map(|command| match command {
            Command::AddElements(set, elements) if set == "services" => Some(elements.clone()),
            Command::AddSet(name, set) if name == "services" => {
                Some(set.elements.clone().into_iter().collect())
            }
            _ => None,
        })
        .flatten()
        .collect();
    elements
        .into_iter()
        .map(|(key, _)| key[0].clone())
        .collect()
}

#[test]
fn a_cold_start_begins_with_what_others_wait_for() {
    let mut cluster = Cluster::new();
    let mut all: Vec<_> = (0..1000).flat_map(|number| large(number, 10)).collect();
    all.extend(renamed(
        large(2000, 2),
        &ObjectName::new("default", "kubernetes"),
    ));
    all.extend(renamed(
        large(2001, 2),
        &ObjectName::new("kube-system", "kube-dns"),
    ));
    let outcome = cluster.change(all);
    assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);

    let applied = std::mem::take(&mut cluster.kernel.0.borrow_mut().applied);
    let v4 = applied.iter().filter(|one| one.family == TableFamily::Ip);
    let started: Vec<_> = v4.map(started).collect();
    let address = |number: u16| {
        let base = u32::from(Ipv4Addr::new(10, 96, 0, 0));
        Value::Address(Ipv4Addr::from(base + u32::from(number)).into())
    };
    // The first commit, then ten thousand endpoints in two, then what leads to them.
    assert_eq!(started[0], [address(2000), address(2001)]);
    assert_eq!((started[1].len(), started[2].len()), (0, 0));
    assert_eq!(started.iter().map(Vec::len).sum::<usize>(), 1002);
    cluster.assert_settled();
    assert!(cluster.kernel.0.borrow().applied.is_empty());
}

#[test]
fn a_cold_start_that_fails_half_way_is_finished() {
    let mut cluster = Cluster::new();
    let all: Vec<_> = (0..1000).flat_map(|number| large(number, 10)).collect();
    cluster.kernel.0.borrow_mut().refused = Some(2);
    assert_eq!(cluster.change(all).failures.len(), 1);
    assert!(cluster.reconciler.resync().failures.is_empty());
    cluster.assert_settled();
}

/// What only this proxy has changed is as it left it.
#[test]
fn nothing_is_read_where_nobody_else_has_changed_anything() {
    let mut cluster = Cluster::new();
    cluster.change(large(1, 2));
    let reads = |cluster: &Cluster| cluster.kernel.0.borrow().reads;
    let before = reads(&cluster);
    for endpoints in 3..9 {
        cluster.change(large(1, endpoints));
        assert!(cluster.reconciler.resync().sent.is_empty());
    }
    assert_eq!(reads(&cluster), before);

    cluster.kernel.disturb();
    assert!(cluster.reconciler.resync().sent.is_empty());
    assert_eq!(reads(&cluster), before + 2);
    cluster.kernel.remove(Family::V4);
    assert!(!cluster.reconciler.resync().sent.is_empty());
    cluster.assert_settled();
}
