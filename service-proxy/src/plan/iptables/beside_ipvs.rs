//! Beside IPVS: what looks up sets before virtual servers and after them (service-proxy 2.6).
//!
//! Chains and rules are kube-proxy's, but that pods and the node itself are led to all endpoints where a virtual
//! server has only those on this node, that what lacks endpoints is refused or dropped by sets of its own, and that
//! what the node itself sends is looked at before IPVS takes it, in the table `mangle`.

use super::{
    Settings,
    name::{
        CANARY, FORWARD, IPVS_FILTER, IPVS_OUT_FILTER, LOAD_BALANCER, LOCAL_NODE_PORTS,
        LOCAL_SERVICES, MARK_MASQ, NODE_PORT, POSTROUTING, PROXY_FIREWALL, SERVICES,
        SOURCE_RANGES_FIREWALL,
    },
    rule::Rule,
    ruleset::{ChainId, Chains, Shared, Table},
    skeleton::{self, Jump, NEW, PORTALS},
};
use crate::{
    model::Protocol,
    plan::{
        ipvs::SetName,
        nftables::{NodePortAddresses, loopback},
    },
};

const BY_SOCKET: &str = "dst,dst";
const BY_PORT: &str = "dst";
const BY_SOCKET_AND_SOURCE: &str = "dst,dst,src";

/// The jumps, with kube-proxy's comments. Each is put first, so that the last stands first: who may not connect is
/// told nothing, not even that there is nobody.
pub const JUMPS: [Jump; 12] = {
    use Table::{Filter, Mangle, Nat};
    let access = Some("kubernetes ipvs access filter");
    let firewall = Some("kube-proxy firewall rules");
    let new = Some(NEW);
    [
        (Filter, "INPUT", None, access, IPVS_FILTER),
        (Filter, "INPUT", None, firewall, PROXY_FIREWALL),
        (
            Filter,
            "INPUT",
            None,
            Some("kubernetes health check rules"),
            NODE_PORT,
        ),
        (Filter, "FORWARD", None, firewall, PROXY_FIREWALL),
        (Filter, "FORWARD", new, Some(PORTALS), SERVICES),
        (Filter, "OUTPUT", new, Some(PORTALS), SERVICES),
        (
            Filter,
            "FORWARD",
            None,
            Some("kubernetes forwarding rules"),
            FORWARD,
        ),
        (Mangle, "OUTPUT", new, access, IPVS_OUT_FILTER),
        (Nat, "OUTPUT", None, Some(PORTALS), SERVICES),
        (Nat, "PREROUTING", None, Some(PORTALS), SERVICES),
        (
            Nat,
            "POSTROUTING",
            None,
            Some("kubernetes postrouting rules"),
            POSTROUTING,
        ),
        // Of kube-proxy alone: it looks at what the node sends when IPVS has already taken it.
        (Filter, "OUTPUT", None, access, IPVS_OUT_FILTER),
    ]
};

/// The rules in chains of others.
pub fn shared() -> Vec<Shared> {
    let ours = JUMPS.len() - 1;
    JUMPS.into_iter().take(ours).map(skeleton::jump).collect()
}

/// The chains that no Service changes.
pub fn chains(settings: &Settings) -> Chains {
    let sets = Sets { settings };
    let canaries = Table::ALL.map(|table| (table.chain(CANARY), Vec::new()));
    let mut chains: Chains = canaries.into();
    chains.extend(skeleton::masquerading(settings));
    let postrouting = chains.entry(Table::Nat.chain(POSTROUTING)).or_default();
    let itself = sets.named(SetName::LOOP_BACK, BY_SOCKET_AND_SOURCE);
    postrouting.insert(0, itself.jump("MASQUERADE"));
    chains.extend([
        (Table::Nat.chain(SERVICES), sets.services()),
        (Table::Nat.chain(LOAD_BALANCER), sets.load_balancer()),
        (Table::Nat.chain(NODE_PORT), sets.node_port()),
        (Table::Filter.chain(FORWARD), skeleton::forward(settings)),
        (Table::Filter.chain(NODE_PORT), sets.health_checks()),
        (Table::Filter.chain(IPVS_FILTER), sets.ipvs_filter()),
        (Table::Mangle.chain(IPVS_OUT_FILTER), sets.out_filter()),
    ]);
    chains.extend(sets.firewall(Table::Filter.chain(PROXY_FIREWALL)));
    chains
}

/// What is done with what still goes to addresses that Services have or could have, where IPVS has not taken it.
pub fn unserved(settings: &Settings) -> Vec<String> {
    let sets = Sets { settings };
    // The kernel takes a while to make an IPv6 address the node's.
    let served = sets.matching(SetName::IPVS_SERVERS, BY_SOCKET);
    let no_such_port = sets.matching(SetName::IPVS_IPS, BY_PORT);
    let nobody = skeleton::unallocated(settings);
    [served.jump("RETURN"), no_such_port.jump("REJECT")]
        .into_iter()
        .chain(nobody)
        .collect()
}

/// Writes rules that look up sets.
struct Sets<'a> {
    settings: &'a Settings,
}

// === impl Sets ===

impl Sets<'_> {
    fn matching(&self, set: SetName, fields: &str) -> Rule {
        self.and(Rule::new(), set, fields)
    }

    /// With a comment.
    fn named(&self, set: SetName, fields: &str) -> Rule {
        self.and(Rule::named(set.comment), set, fields)
    }

    fn and(&self, rule: Rule, set: SetName, fields: &str) -> Rule {
        let name = set.of(self.settings.family);
        rule.with(format_args!("-m set --match-set {name} {fields}"))
    }

    fn services(&self) -> Vec<String> {
        let by_socket = |set| self.named(set, BY_SOCKET);
        let loopback = Rule::new().with(format_args!("-s {}", loopback(self.settings.family)));
        let first = [
            loopback.jump("RETURN"),
            // From this node, which has the addresses of Services.
            self.named(SetName::IPVS_IPS, "src").jump(MARK_MASQ),
            by_socket(SetName::LOAD_BALANCER).jump(LOAD_BALANCER),
        ];
        let external = [
            by_socket(SetName::EXTERNAL_IP).jump(MARK_MASQ),
            by_socket(SetName::EXTERNAL_IP).jump("ACCEPT"),
            by_socket(SetName::EXTERNAL_IP_LOCAL).jump(LOCAL_SERVICES),
            by_socket(SetName::EXTERNAL_IP_LOCAL).jump("ACCEPT"),
        ];
        let last = [SetName::CLUSTER_IP, SetName::LOAD_BALANCER];
        let last = last.map(|set| self.matching(set, BY_SOCKET).jump("ACCEPT"));
        first
            .into_iter()
            .chain(self.masquerade_internal())
            .chain(external)
            .chain(self.to_node_ports())
            .chain(last)
            .collect()
    }

    /// Connections to cluster IPs that are not from pods are marked, or all are (F25, F26).
    fn masquerade_internal(&self) -> Option<String> {
        let rule = self.named(SetName::CLUSTER_IP, BY_SOCKET);
        if self.settings.node.masquerade_all {
            return Some(rule.jump(MARK_MASQ));
        }
        let from_pods = self.settings.pods()?;
        Some(rule.with(format_args!("! {from_pods}")).jump(MARK_MASQ))
    }

    /// To the addresses that NodePorts are served on; those of Services are the node's too.
    fn to_node_ports(&self) -> Vec<String> {
        let NodePortAddresses::In(networks) = &self.settings.node.node_ports else {
            return Vec::new();
        };
        let rule = |network| {
            Rule::new()
                .destination_local()
                .destination_network(network)
                .jump(NODE_PORT)
        };
        networks.iter().copied().map(rule).collect()
    }

    fn load_balancer(&self) -> Vec<String> {
        let local = || self.named(SetName::LOAD_BALANCER_LOCAL, BY_SOCKET);
        vec![
            local().jump(LOCAL_SERVICES),
            local().jump("RETURN"),
            Rule::new().jump(MARK_MASQ),
        ]
    }

    fn node_port(&self) -> Vec<String> {
        let of_protocol = |protocol| {
            let [all, local] = SetName::node_ports(protocol);
            let fields = match protocol {
                Protocol::Sctp => BY_SOCKET,
                Protocol::Tcp | Protocol::Udp => BY_PORT,
            };
            let name = protocol.to_string().to_lowercase();
            let rule = move |set: SetName| {
                let rule = Rule::new().with(format_args!("-p {name}"));
                let comment = set.comment;
                let rule = rule.with(format_args!("-m comment --comment \"{comment}\""));
                self.and(rule, set, fields)
            };
            [
                rule(local).jump(LOCAL_NODE_PORTS),
                rule(local).jump("RETURN"),
                rule(all).jump(MARK_MASQ),
            ]
        };
        let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
        protocols.into_iter().flat_map(of_protocol).collect()
    }

    /// Lets only some connect to load balancers' addresses (F20).
    fn firewall(&self, entry: ChainId) -> Chains {
        let sources = [
            SetName::LOAD_BALANCER_SOURCE_CIDR,
            SetName::LOAD_BALANCER_SOURCE_IP,
        ];
        let accepted = sources.map(|set| self.named(set, BY_SOCKET_AND_SOURCE).jump("RETURN"));
        let dropped = [Rule::new().jump("DROP")];
        let ranges: Vec<_> = accepted.into_iter().chain(dropped).collect();
        Chains::from([
            (entry, vec![self.to_firewall()]),
            (Table::Filter.chain(SOURCE_RANGES_FIREWALL), ranges.clone()),
            (Table::Mangle.chain(SOURCE_RANGES_FIREWALL), ranges),
        ])
    }

    fn to_firewall(&self) -> String {
        let rule = self.named(SetName::LOAD_BALANCER_FW, BY_SOCKET);
        rule.jump(SOURCE_RANGES_FIREWALL)
    }

    fn health_checks(&self) -> Vec<String> {
        let rule = self.named(SetName::HEALTH_CHECK_NODE_PORT, BY_PORT);
        vec![rule.jump("ACCEPT")]
    }

    /// What comes to addresses of Services and can't be served (F15).
    fn ipvs_filter(&self) -> Vec<String> {
        let new = |set: SetName, fields| self.and(Rule::named(set.comment).with(NEW), set, fields);
        let lacking = [
            new(SetName::NO_LOCAL_ENDPOINTS, BY_SOCKET).jump("DROP"),
            new(SetName::NO_ENDPOINTS, BY_SOCKET).jump("REJECT"),
        ];
        let served = [
            SetName::LOAD_BALANCER,
            SetName::CLUSTER_IP,
            SetName::EXTERNAL_IP,
            SetName::EXTERNAL_IP_LOCAL,
        ];
        let served = served.map(|set| self.matching(set, BY_SOCKET).jump("RETURN"));
        let health = self.matching(SetName::HEALTH_CHECK_NODE_PORT, BY_PORT);
        let others = self.and(Rule::new().with(NEW), SetName::IPVS_IPS, BY_PORT);
        lacking
            .into_iter()
            .chain(served)
            .chain([health.jump("RETURN"), others.jump("REJECT")])
            .collect()
    }

    /// What the node itself sends, before IPVS refuses what is to be dropped. What has other endpoints for the node
    /// than for others is led to them.
    fn out_filter(&self) -> Vec<String> {
        let lacking = self.named(SetName::NO_LOCAL_ENDPOINTS, BY_SOCKET);
        let lacking = self.and(lacking, SetName::CLUSTER_IP, BY_SOCKET);
        vec![self.to_firewall(), lacking.jump("DROP")]
    }
}
