//! The parts of a table that do not depend on Services.

mod rule;
mod sets;

use std::collections::BTreeMap;

use kernel::{
    Family,
    nft::{Chain, ChainKind, Field, Hook, Operator, Rule, Statement, Table, Value, Verdict},
};

pub use self::{
    rule::goto,
    sets::{
        CLUSTER_IPS, ENTRANCES, FIREWALL, HAIRPIN, NO_ENDPOINT_NODE_PORTS, NO_ENDPOINTS,
        NODE_PORT_ENTRANCES, NODE_PORT_NETWORKS, NODE_PORT_SESSION_SERVICES, SESSION_SERVICES,
        SESSIONS, VIRTUAL_ADDRESSES, VIRTUAL_SERVERS, capacity, session_endpoints, session_slots,
        sets,
    },
};

use self::{
    rule::{
        base, clear_mark, commented, has_any, in_set, is_new, jump, matches, regular, rule,
        set_mark, verdict_map,
    },
    sets::SERVICE_NETWORKS,
};
use super::{
    elements::Elements,
    node_rules::{NodePortAddresses, NodeRules, Surroundings, loopback},
    pool::{PORT, Pool, SOCKET},
};
use crate::model::Protocol;

/// The table, one of each family. Not `kube-proxy`, so that both can run while one takes over.
pub const TABLE: &str = "tweed-proxy";
/// The table beside IPVS; another, so that either mode can take over from the other.
pub const IPVS_TABLE: &str = "tweed-ipvs";

/// The chain that refuses a connection; nft would take a chain `reject` for its own word.
pub const REFUSE: &str = "refuse";
/// The chain for connections from outside that any endpoint may take.
pub const FROM_OUTSIDE: &str = "from-outside";
/// The chain for connections from outside that only endpoints on this node may take.
pub const LOCAL_ONLY: &str = "local-only";
/// The same for NodePorts.
pub const NODE_PORTS_LOCAL_ONLY: &str = "node-ports-local-only";
const LOOK_UP: &str = "look-up";
const NODE_PORTS: &str = "look-up-node-ports";
/// The chain for what has the address of a Service still, as nothing has translated it.
pub const UNSERVED: &str = "unserved";
const UNSERVED_NODE_PORTS: &str = "unserved-node-ports";
const CHECK_SOURCES: &str = "check-sources";

/// Priorities of the base chains, those of kube-proxy: `dstnat`, `srcnat` and `filter`.
const DSTNAT: i32 = -100;
const SRCNAT: i32 = 100;
const FILTER: i32 = 0;
/// After addresses are translated, before IPVS looks at what the node itself sends.
const AFTER_DSTNAT: i32 = DSTNAT + 1;
/// Before addresses are translated.
const BEFORE_DSTNAT: i32 = DSTNAT - 10;

/// Who spreads connections over endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balancer {
    /// The maps.
    Maps,
    /// IPVS, but for what no virtual server can say: that endpoints depend on who connects. The rules do what
    /// comes before and after. The node has the addresses of Services.
    Ipvs,
}

/// What of a table does not depend on Services.
#[derive(Debug)]
pub struct Skeleton {
    /// The family.
    pub family: Family,
    /// What is a matter of the node, as far as options say.
    pub options: NodeRules,
    /// The same in the node's surroundings.
    pub node: NodeRules,
    /// Who spreads connections.
    pub balancer: Balancer,
}

// === impl Balancer ===

impl Balancer {
    /// The name of the table.
    pub const fn table(self) -> &'static str {
        match self {
            Self::Maps => TABLE,
            Self::Ipvs => IPVS_TABLE,
        }
    }
}

// === impl Skeleton ===

impl Skeleton {
    /// For a node of which nothing is known yet.
    pub fn new(family: Family, options: NodeRules, balancer: Balancer) -> Self {
        Self {
            family,
            balancer,
            node: options.settled(family, &Surroundings::default()),
            options,
        }
    }

    /// Takes in what is known of the node; answers whether that makes a difference.
    pub fn settle(&mut self, around: &Surroundings) -> bool {
        let node = self.options.settled(self.family, around);
        let differs = self.node != node;
        self.node = node;
        differs
    }

    /// The table with elements, and the chains that they lead to.
    pub fn table(
        &self,
        chains: impl Iterator<Item = (String, Chain)>,
        mut elements: Elements,
    ) -> Table {
        let sets = sets().map(|name| (name.to_owned(), self.set(name, &mut elements)));
        Table {
            family: self.family,
            name: self.balancer.table().to_owned(),
            chains: self.chains().into_iter().chain(chains).collect(),
            sets: sets
                .chain(self.node_port_networks())
                .chain(self.virtual_sets())
                .chain([
                    (SESSIONS.to_owned(), self.sessions()),
                    (
                        SERVICE_NETWORKS.to_owned(),
                        self.networks(self.node.service_networks()),
                    ),
                ])
                .collect(),
        }
    }

    fn chains(&self) -> BTreeMap<String, Chain> {
        let nat = |hook, priority, rules| base(ChainKind::Nat, hook, priority, rules);
        let filter = |hook, priority, to| {
            base(
                ChainKind::Filter,
                hook,
                priority,
                vec![rule([is_new(), jump(to)])],
            )
        };
        let look_up = || vec![rule([jump(LOOK_UP)])];
        let chains = [
            (
                "sources-prerouting",
                filter(Hook::Prerouting, BEFORE_DSTNAT, CHECK_SOURCES),
            ),
            (
                "sources-output",
                filter(Hook::Output, BEFORE_DSTNAT, CHECK_SOURCES),
            ),
            ("nat-prerouting", nat(Hook::Prerouting, DSTNAT, look_up())),
            ("nat-output", nat(Hook::Output, DSTNAT, look_up())),
            (
                "nat-postrouting",
                nat(Hook::Postrouting, SRCNAT, self.postrouting()),
            ),
            ("filter-input", filter(Hook::Input, FILTER, UNSERVED)),
            ("filter-forward", self.forward()),
            (
                "filter-output",
                filter(Hook::Output, self.filter_output(), UNSERVED),
            ),
            (
                CHECK_SOURCES,
                regular(vec![rule([verdict_map(&SOCKET, FIREWALL)])]),
            ),
            (LOOK_UP, regular(self.look_up())),
            (NODE_PORTS, regular(look_up_node_ports())),
            (
                FROM_OUTSIDE,
                regular(vec![rule([set_mark(self.node.mark)])]),
            ),
            (
                LOCAL_ONLY,
                regular(self.local_only(Pool::Services, Pool::LocalServices)),
            ),
            (
                NODE_PORTS_LOCAL_ONLY,
                regular(self.local_only(Pool::NodePorts, Pool::LocalNodePorts)),
            ),
            (UNSERVED, regular(self.unserved())),
            (
                UNSERVED_NODE_PORTS,
                regular(vec![rule([verdict_map(&PORT, NO_ENDPOINT_NODE_PORTS)])]),
            ),
            (REFUSE, regular(vec![rule([Statement::Reject])])),
        ];
        chains.map(|(name, chain)| (name.to_owned(), chain)).into()
    }

    /// IPVS takes what the node itself sends as soon as it could have been translated, and would refuse what is
    /// to be dropped.
    const fn filter_output(&self) -> i32 {
        match self.balancer {
            Balancer::Maps => FILTER,
            Balancer::Ipvs => AFTER_DSTNAT,
        }
    }

    /// What an endpoint sends that fits no connection is not translated back (F35): the client would take it for
    /// a stranger's and answer with a reset, which does fit.
    fn forward(&self) -> Chain {
        const TCP: Value = Value::Protocol(Protocol::Tcp.number());
        let invalid = commented(
            "it would reset the connection",
            [
                matches(Field::Protocol, Operator::Is(TCP)),
                has_any(Field::CtState, Field::CT_INVALID),
                Statement::Verdict(Verdict::Drop),
            ],
        );
        let invalid = (!self.node.keep_invalid).then_some(invalid);
        let unserved = rule([is_new(), jump(UNSERVED)]);
        let rules = invalid.into_iter().chain([unserved]).collect();
        base(ChainKind::Filter, Hook::Forward, FILTER, rules)
    }

    /// Marks what has to be masqueraded, then goes where the Service's endpoints are drawn from.
    fn look_up(&self) -> Vec<Rule> {
        let to_cluster_ip = || in_set([Field::DestinationAddress], CLUSTER_IPS);
        let mark = || set_mark(self.node.mark);
        let masquerade = if self.node.masquerade_all {
            Some(rule([to_cluster_ip(), mark()]))
        } else {
            let others = self.node.from_pods(false);
            others.map(|others| commented("not from a pod", [to_cluster_ip(), others, mark()]))
        };
        let rules = [
            rule([verdict_map(&SOCKET, ENTRANCES)]),
            rule([verdict_map(&SOCKET, Pool::Services.frontends())]),
            self.to_node([Statement::Verdict(goto(NODE_PORTS))]),
        ];
        let from_service = commented(
            "from this node, which has the addresses of Services",
            [in_set([Field::SourceAddress], VIRTUAL_ADDRESSES), mark()],
        );
        let from_service = (self.balancer == Balancer::Ipvs).then_some(from_service);
        let first = from_service.into_iter().chain(masquerade);
        first.chain(rules).collect()
    }

    /// Lets connections from pods and from the node itself have all endpoints (F11); the others get those
    /// on this node.
    fn local_only(&self, all: Pool, local: Pool) -> Vec<Rule> {
        let any = || verdict_map(all.fields(), all.frontends());
        let from_node = || matches(Field::SourceType, Operator::IsLocal);
        let pods = self.node.from_pods(true);
        let pods = pods.map(|pods| commented("from a pod", [pods, any()]));
        let rules = [
            rule([from_node(), set_mark(self.node.mark)]),
            commented("from this node", [from_node(), any()]),
            rule([verdict_map(local.fields(), local.frontends())]),
        ];
        pods.into_iter().chain(rules).collect()
    }

    /// What still has a Service's address after the look-up lacks endpoints, or is another port of a
    /// cluster IP (F15).
    fn unserved(&self) -> Vec<Rule> {
        let lacking = rule([verdict_map(&SOCKET, NO_ENDPOINTS)]);
        let node_ports = self.to_node([jump(UNSERVED_NODE_PORTS)]);
        let no_such_port = |addresses| {
            let refuse = Statement::Verdict(goto(REFUSE));
            let to = in_set([Field::DestinationAddress], addresses);
            commented("no such port", [to, refuse])
        };
        let nobody = commented(
            "nobody's cluster IP",
            [
                in_set([Field::DestinationAddress], SERVICE_NETWORKS),
                Statement::Verdict(Verdict::Drop),
            ],
        );
        match self.balancer {
            Balancer::Maps => vec![lacking, no_such_port(CLUSTER_IPS), nobody, node_ports],
            // The node's own addresses are none of those that follow.
            Balancer::Ipvs => vec![
                lacking,
                node_ports,
                commented(
                    "IPVS comes next",
                    [
                        in_set(SOCKET, VIRTUAL_SERVERS),
                        Statement::Verdict(Verdict::Return),
                    ],
                ),
                no_such_port(CLUSTER_IPS),
                no_such_port(VIRTUAL_ADDRESSES),
                nobody,
            ],
        }
    }

    fn postrouting(&self) -> Vec<Rule> {
        let mark = self.node.mark;
        let masquerade = Statement::Masquerade { fully_random: true };
        // IPVS does not say in the connection's status that it has translated. A connection of the node to
        // itself needs no other source address.
        let was_translated = match self.balancer {
            Balancer::Maps => has_any(Field::CtStatus, Field::CT_DNAT),
            Balancer::Ipvs => matches(Field::DestinationType, Operator::IsNotLocal),
        };
        vec![
            rule([
                has_any(Field::Mark, mark.value()),
                clear_mark(mark),
                masquerade.clone(),
            ]),
            commented(
                "an endpoint that reaches itself",
                [
                    was_translated,
                    in_set([Field::SourceAddress, Field::DestinationAddress], HAIRPIN),
                    masquerade,
                ],
            ),
        ]
    }

    /// For connections to an address that NodePorts are served on.
    fn to_node(&self, then: [Statement; 1]) -> Rule {
        let address = match &self.node.node_ports {
            NodePortAddresses::All | NodePortAddresses::Primary => {
                let loopback = Value::Network(loopback(self.family));
                matches(Field::DestinationAddress, Operator::IsNot(loopback))
            }
            NodePortAddresses::In(_) => in_set([Field::DestinationAddress], NODE_PORT_NETWORKS),
        };
        let local = matches(Field::DestinationType, Operator::IsLocal);
        let statements = [address, local].into_iter().chain(then).collect();
        Rule {
            statements,
            comment: None,
        }
    }
}

fn look_up_node_ports() -> Vec<Rule> {
    vec![
        rule([verdict_map(&PORT, NODE_PORT_ENTRANCES)]),
        rule([verdict_map(&PORT, Pool::NodePorts.frontends())]),
    ]
}
