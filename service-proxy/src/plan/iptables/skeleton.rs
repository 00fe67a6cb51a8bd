//! What stands in the tables whatever Services there are (service-proxy 2.3, 2.4).

use ipnetwork::IpNetwork;
use kernel::Family;

use super::{
    Dispatch, Settings, beside_ipvs,
    name::{
        ACCOUNTED, CANARY, EXTERNAL_NODE_PORTS, EXTERNAL_SERVICES, FIREWALL, FORWARD,
        INVALID_DROPPED, MARK_MASQ, NODE_PORTS, POSTROUTING, PROXY_FIREWALL, SERVICES,
    },
    rule::Rule,
    ruleset::{Chains, Shared, Table},
};
use crate::plan::nftables::{NodePortAddresses, loopback};

pub const NEW: &str = "-m conntrack --ctstate NEW";
const EXTERNAL_PORTALS: &str = "kubernetes externally-visible service portals";
pub const PORTALS: &str = "kubernetes service portals";
const BALANCER_FIREWALL: &str = "kubernetes load balancer firewall";

/// A jump from a chain of the kernel's own: table, chain, condition, comment, target.
pub type Jump = (
    Table,
    &'static str,
    Option<&'static str>,
    Option<&'static str>,
    &'static str,
);

/// The jumps of kube-proxy. Each is put first, so that the last stands first.
const JUMPS: [Jump; 12] = {
    use Table::{Filter, Nat};
    let new = Some(NEW);
    let external = Some(EXTERNAL_PORTALS);
    let portals = Some(PORTALS);
    let firewall = Some(BALANCER_FIREWALL);
    [
        (Filter, "INPUT", new, external, EXTERNAL_SERVICES),
        (Filter, "FORWARD", new, external, EXTERNAL_SERVICES),
        (
            Filter,
            "INPUT",
            None,
            Some("kubernetes health check service ports"),
            NODE_PORTS,
        ),
        (Filter, "FORWARD", new, portals, SERVICES),
        (Filter, "OUTPUT", new, portals, SERVICES),
        (
            Filter,
            "FORWARD",
            None,
            Some("kubernetes forwarding rules"),
            FORWARD,
        ),
        (Filter, "INPUT", new, firewall, PROXY_FIREWALL),
        (Filter, "OUTPUT", new, firewall, PROXY_FIREWALL),
        (Filter, "FORWARD", new, firewall, PROXY_FIREWALL),
        (Nat, "OUTPUT", None, portals, SERVICES),
        (Nat, "PREROUTING", None, portals, SERVICES),
        (
            Nat,
            "POSTROUTING",
            None,
            Some("kubernetes postrouting rules"),
            POSTROUTING,
        ),
    ]
};

/// What the node itself sends to addresses that lack endpoints is refused as well; kube-proxy sends it on.
const FROM_NODE: Jump = (
    Table::Filter,
    "OUTPUT",
    Some(NEW),
    Some(EXTERNAL_PORTALS),
    EXTERNAL_SERVICES,
);

/// Needed where loopback addresses are routed.
const MARTIANS: [Jump; 2] = [
    (Table::Filter, "INPUT", None, None, FIREWALL),
    (Table::Filter, "OUTPUT", None, None, FIREWALL),
];

/// The rules in chains of others.
pub fn shared(settings: &Settings) -> Vec<Shared> {
    let from_node = (settings.dispatch == Dispatch::Tree).then_some(FROM_NODE);
    let martians = settings.serves_loopback();
    let jumps = JUMPS
        .into_iter()
        .chain(from_node)
        .chain(MARTIANS.into_iter().filter(|_| martians));
    let mut shared: Vec<_> = jumps.map(jump).collect();
    if martians {
        shared.push(martian_rule());
    }
    shared
}

/// All rules that there could be in chains of others.
pub fn all_shared() -> impl Iterator<Item = Shared> {
    let jumps = JUMPS.into_iter().chain([FROM_NODE]).chain(MARTIANS);
    let known = |it: &Jump| JUMPS.contains(it) || *it == FROM_NODE;
    let beside_ipvs = beside_ipvs::JUMPS.into_iter().filter(move |it| !known(it));
    let jumps = jumps.chain(beside_ipvs);
    jumps.map(jump).chain([martian_rule()])
}

/// Such a jump as a rule.
pub fn jump((table, from, condition, comment, to): Jump) -> Shared {
    let rule = Rule::new()
        .with_some(condition)
        .with_some(comment.map(|comment| format!("-m comment --comment \"{comment}\"")));
    Shared {
        chain: table.chain(from),
        rule: rule.jump(to),
    }
}

/// Routing loopback addresses opens what listens on them to neighbours (CVE-2020-8558), but for this.
fn martian_rule() -> Shared {
    let network = loopback(Family::V4);
    Shared {
        chain: Table::Filter.chain(FIREWALL),
        rule: Rule::named("block incoming localnet connections")
            .destination_network(network)
            .with(format_args!("! -s {network}"))
            .with("-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT")
            .jump("DROP"),
    }
}

/// The chains that no Service changes.
pub fn chains(settings: &Settings) -> Chains {
    let mut chains = Chains::new();
    for table in Table::ALL {
        chains.insert(table.chain(CANARY), Vec::new());
    }
    chains.extend(masquerading(settings));
    chains.insert(Table::Filter.chain(FORWARD), forward(settings));
    chains
}

/// What marks connections, and masquerades those that are marked.
pub fn masquerading(settings: &Settings) -> Chains {
    let mut chains = Chains::new();
    let mark = settings.node.mark.value();
    chains.insert(
        Table::Nat.chain(MARK_MASQ),
        vec![Rule::new().jump(format_args!("MARK --or-mark {mark:#x}"))],
    );
    chains.insert(
        Table::Nat.chain(POSTROUTING),
        vec![
            Rule::new()
                .with(format_args!("-m mark ! --mark {mark:#x}/{mark:#x}"))
                .jump("RETURN"),
            Rule::new().jump(format_args!("MARK --xor-mark {mark:#x}")),
            Rule::named("kubernetes service traffic requiring SNAT")
                .jump("MASQUERADE --random-fully"),
        ],
    );
    chains
}

/// What may be forwarded.
pub fn forward(settings: &Settings) -> Vec<String> {
    let mark = settings.node.mark.value();
    let counted = settings
        .accounting
        .then(|| format!("{ACCOUNTED} {INVALID_DROPPED}"));
    let invalid = settings.drop_invalid && !settings.node.keep_invalid;
    let invalid = invalid.then(|| {
        Rule::new()
            .with("-m conntrack --ctstate INVALID")
            .with_some(counted)
            .jump("DROP")
    });
    let accepted = [
        Rule::named("kubernetes forwarding rules")
            .with(format_args!("-m mark --mark {mark:#x}/{mark:#x}"))
            .jump("ACCEPT"),
        Rule::named("kubernetes forwarding conntrack rule")
            .with("-m conntrack --ctstate RELATED,ESTABLISHED")
            .jump("ACCEPT"),
    ];
    invalid.into_iter().chain(accepted).collect()
}

/// The last rules of the entry for connections to Services: to NodePorts, on the addresses that they are
/// served on (F16, F17).
pub fn to_node_ports(settings: &Settings) -> Vec<String> {
    let rule = || {
        Rule::named("kubernetes service nodeports; NOTE: this must be the last rule in this chain")
            .destination_local()
    };
    let loopback = loopback(settings.family);
    match &settings.node.node_ports {
        NodePortAddresses::All | NodePortAddresses::Primary => {
            let outside = (!settings.serves_loopback()).then(|| format!("! -d {loopback}"));
            vec![rule().with_some(outside).jump(NODE_PORTS)]
        }
        NodePortAddresses::In(_) => {
            let networks = settings.node.node_port_networks();
            let spared =
                !settings.serves_loopback() && networks.iter().any(|it| overlaps(*it, loopback));
            let spare = spared.then(|| Rule::new().destination_network(loopback).jump("RETURN"));
            let rules = networks
                .iter()
                .map(|network| rule().destination_network(*network).jump(NODE_PORTS));
            spare.into_iter().chain(rules).collect()
        }
    }
}

/// The same of those that lack endpoints, from the entry for connections from outside.
pub fn to_unserved_node_ports(settings: &Settings) -> Vec<String> {
    let outside = |network: IpNetwork| Rule::new().destination_local().destination_network(network);
    match &settings.node.node_ports {
        NodePortAddresses::All | NodePortAddresses::Primary => {
            vec![Rule::new().destination_local().jump(EXTERNAL_NODE_PORTS)]
        }
        NodePortAddresses::In(_) => {
            let networks = settings.node.node_port_networks().into_iter();
            networks
                .map(|network| outside(network).jump(EXTERNAL_NODE_PORTS))
                .collect()
        }
    }
}

/// What becomes of connections to cluster IPs that no Service has (F15). kube-proxy's iptables mode lets them
/// pass.
pub fn unallocated(settings: &Settings) -> Vec<String> {
    let networks = settings.node.service_networks().into_iter();
    networks
        .map(|network| {
            Rule::named("cluster IPs of no Service")
                .destination_network(network)
                .jump("DROP")
        })
        .collect()
}

/// Whether two networks have addresses in common.
pub fn overlaps(a: IpNetwork, b: IpNetwork) -> bool {
    a.contains(b.network()) || b.contains(a.network())
}
