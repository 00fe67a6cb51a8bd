//! Whatever stood before, what is done leads to what should stand; others' rules stay.

use std::collections::BTreeMap;

use kernel::Family;
use proptest::{
    collection::vec,
    prelude::*,
    sample::{select, subsequence},
};
use service_proxy::{
    model::{
        Endpoint, EndpointSlice, Here, ObjectName, Protocol, Service, ServicePort as ModelPort,
        SlicePort, TrafficPolicy,
    },
    plan::{
        iptables::{Dispatch, Plan, ServicePort, Settings, Table, clean_up, difference},
        nftables::{NodePortAddresses, NodeRules, Pods},
    },
};

use crate::tables::Tables;

const HERE: Here<'_> = Here {
    node: "n1",
    zone: None,
    addresses: &[],
};

/// Services by number; a Service that is not there has no ports.
type Services = BTreeMap<ObjectName, Vec<ServicePort>>;

fn policy() -> impl Strategy<Value = TrafficPolicy> {
    prop_oneof![Just(TrafficPolicy::Cluster), Just(TrafficPolicy::Local)]
}

fn ports(number: u8) -> impl Strategy<Value = (ObjectName, Vec<ServicePort>)> {
    let endpoints = subsequence(vec![1_u8, 2, 3, 4], 0..=4);
    let addresses = subsequence(vec![1_u8, 2, 3], 0..=3);
    let policies = (policy(), policy());
    let options = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (endpoints, addresses, policies, options).prop_map(
        move |(endpoints, addresses, policies, options)| {
            let (exists, node_port, ranges, sticky) = options;
            let name = ObjectName::new("shop", format!("s{number}"));
            let service = Service {
                name: name.clone(),
                cluster_ips: vec![[10, 96, number / 20, number].into()],
                ports: vec![ModelPort {
                    name: "http".into(),
                    protocol: Protocol::Tcp,
                    port: 80,
                    node_port: node_port.then_some(30_000 + u16::from(number)),
                }],
                // The last address is contested.
                external_ips: addresses
                    .iter()
                    .map(|it| [192, 0, 2, if *it == 3 { 9 } else { number }].into())
                    .collect(),
                load_balancer_ips: addresses
                    .iter()
                    .filter(|it| **it == 2)
                    .map(|_| [203, 0, 113, number].into())
                    .collect(),
                source_ranges: ranges
                    .then(|| "198.51.100.0/24".parse().unwrap())
                    .into_iter()
                    .collect(),
                internal: policies.0,
                external: policies.1,
                affinity: sticky.then_some(std::time::Duration::from_secs(60)),
                ..Service::default()
            };
            let slice = slice(&name, endpoints.into_iter().map(endpoint).collect());
            let ports =
                exists.then(|| ServicePort::all(&service, [&slice].into_iter(), Family::V4, HERE));
            (name, ports.unwrap_or_default())
        },
    )
}

fn slice(service: &ObjectName, endpoints: Vec<Endpoint>) -> EndpointSlice {
    EndpointSlice {
        name: service.clone(),
        service: service.clone(),
        triggered: None,
        family: Family::V4,
        ports: vec![SlicePort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 8080,
        }],
        endpoints,
    }
}

fn endpoint(number: u8) -> Endpoint {
    Endpoint {
        address: [10, 244, 0, number].into(),
        ready: true,
        serving: true,
        terminating: false,
        node: Some(format!("n{}", number % 2).into()),
        hints: None,
    }
}

fn services() -> impl Strategy<Value = Services> {
    let all = (0..40).map(ports).collect::<Vec<_>>();
    all.prop_map(|services| services.into_iter().collect())
}

fn settings() -> impl Strategy<Value = Settings> {
    let dispatch = prop_oneof![Just(Dispatch::Tree), Just(Dispatch::Flat)];
    let networks = subsequence(vec!["192.0.2.0/24", "0.0.0.0/0", "127.0.0.0/16"], 0..=3);
    (dispatch, networks, vec(any::<bool>(), 4)).prop_map(|(dispatch, networks, options)| Settings {
        family: Family::V4,
        node: NodeRules {
            pods: options[0].then(|| Pods::Network("10.244.0.0/16".parse().unwrap())),
            masquerade_all: options[1],
            node_ports: if networks.is_empty() {
                NodePortAddresses::All
            } else {
                NodePortAddresses::In(networks.iter().map(|it| it.parse().unwrap()).collect())
            },
            ..NodeRules::default()
        },
        dispatch,
        localhost_node_ports: options[2],
        drop_invalid: options[0],
        accounting: false,
        beside_ipvs: options[3],
    })
}

fn plan(settings: Settings, services: Services) -> Plan {
    let mut plan = Plan::new(settings);
    plan.update(services);
    plan
}

/// Kubelet's rule against those who would make use of routed loopback addresses, as ours.
const GUARD: &str = "-m comment --comment \"block incoming localnet connections\" -d 127.0.0.0/8 ! -s 127.0.0.0/8 \
    -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP";
/// What a kubelet has in its chain: none, one of today, an older one.
const OF_KUBELET: [&[&str]; 3] = [
    &[],
    &[GUARD],
    &[GUARD, "-m mark --mark 0x8000/0x8000 -j DROP"],
];

/// Tables with rules of others, and those of kubelet where it has any.
fn others(kubelet: &[&str]) -> Tables {
    let mut tables = Tables::new();
    tables
        .chain(Table::Nat, "POSTROUTING")
        .push("-s 10.0.0.0/8 -j MASQUERADE".into());
    if !kubelet.is_empty() {
        for chain in ["INPUT", "OUTPUT"] {
            let jump = "-j KUBE-FIREWALL".to_owned();
            tables.chain(Table::Filter, chain).push(jump);
        }
        let rules = kubelet.iter().map(|rule| (*rule).to_owned());
        tables.chain(Table::Filter, "KUBE-FIREWALL").extend(rules);
        tables.chain(Table::Mangle, "KUBE-KUBELET-CANARY");
    }
    tables.chain(Table::Nat, "THEIRS").push("-j RETURN".into());
    tables
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_done_leads_to_what_should_stand(
        before in (settings(), services()),
        after in (settings(), services()),
        kubelet in select(&OF_KUBELET[..]),
    ) {
        let mut tables = others(kubelet);
        let before = plan(before.0, before.1);
        tables.apply(&difference(&before.ruleset(), &tables.observed()));
        prop_assert!(difference(&before.ruleset(), &tables.observed()).is_empty());

        let after = plan(after.0, after.1);
        tables.apply(&difference(&after.ruleset(), &tables.observed()));
        prop_assert!(difference(&after.ruleset(), &tables.observed()).is_empty());

        let mut cold = others(kubelet);
        cold.apply(&difference(&after.ruleset(), &cold.observed()));
        prop_assert_eq!(chains(&tables), chains(&cold));

        tables.apply(&clean_up(&tables.observed()));
        prop_assert_eq!(tables, others(kubelet));
    }

    #[test]
    fn a_change_costs_what_it_changes(
        settings in settings(),
        before in services(),
        after in services(),
    ) {
        let mut tables = Tables::new();
        let mut plan = plan(settings, before);
        tables.apply(&difference(&plan.ruleset(), &tables.observed()));
        let delta = plan.update(after);
        let full = difference(&plan.ruleset(), &tables.observed());
        prop_assert_eq!(&delta.changes, &full);
        tables.apply(&delta.changes);
        prop_assert!(difference(&plan.ruleset(), &tables.observed()).is_empty());
    }
}

/// The rules of all chains, whatever the order in the kernel's own; but for what leads to kubelet's chain.
fn chains(tables: &Tables) -> Tables {
    let mut tables = tables.clone();
    for chains in tables.0.values_mut() {
        for (name, rules) in chains {
            if !name.starts_with("KUBE-") {
                rules.sort();
                rules.retain(|rule| rule != "-j KUBE-FIREWALL");
            }
        }
    }
    tables
}

/// Beyond a thousand endpoints, only those have a chain that need one, and comments come last; it stays so.
#[test]
fn a_large_cluster_has_few_chains() {
    let service = Service {
        name: ObjectName::new("shop", "web"),
        cluster_ips: vec![[10, 96, 0, 1].into()],
        ports: vec![ModelPort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: None,
        }],
        ..Service::default()
    };
    let ports = |endpoints: u16| {
        let endpoints = (1..=endpoints).map(|number| Endpoint {
            address: [10, 244, (number / 250) as u8, (number % 250) as u8].into(),
            ..endpoint(if number == 1 { 1 } else { 2 })
        });
        let slice = slice(&service.name, endpoints.collect());
        let ports = ServicePort::all(&service, [&slice].into_iter(), Family::V4, HERE);
        BTreeMap::from([(service.name.clone(), ports)])
    };
    let mut plan = Plan::new(Settings {
        family: Family::V4,
        node: NodeRules::default(),
        dispatch: Dispatch::Tree,
        localhost_node_ports: false,
        drop_invalid: true,
        accounting: false,
        beside_ipvs: false,
    });
    for (endpoints, outgrown, chains) in [(1000, false, 1000), (1001, true, 1), (900, false, 1)] {
        assert_eq!(plan.update(ports(endpoints)).outgrown, outgrown);
        let ruleset = plan.ruleset();
        let of_endpoints = ruleset
            .chains
            .keys()
            .filter(|chain| chain.name.starts_with("KUBE-SEP-"));
        assert_eq!(of_endpoints.count(), chains);
        let rules: usize = ruleset
            .chains
            .iter()
            .filter(|(chain, _)| chain.name.starts_with("KUBE-SVC-"))
            .map(|(_, rules)| rules.len())
            .sum();
        assert_eq!(rules, usize::from(endpoints));
        let entry = &ruleset.chains[&Table::Nat.chain("KUBE-SERVICES")][0];
        assert_eq!(entry.starts_with("-m comment"), chains > 1, "{entry}");
    }
}
