//! The parts of a table that do not depend on Services.

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;
use kernel::{
    Family,
    nft::{
        BaseChain, Chain, ChainKind, DataType, Element, Field, Hook, Match, Operator, Policy, Rule,
        Set, SetData, Statement, Table, Value, Verdict,
    },
};

use super::{
    elements::Elements,
    node_rules::{Mark, NodePortAddresses, NodeRules, Surroundings, loopback},
    pool::{PORT, Pool, SOCKET},
};
use crate::model::Protocol;

/// The table, one of each family. Not `kube-proxy`, so that both can run while one takes over.
pub const TABLE: &str = "tweed-proxy";
/// The table beside IPVS; another, so that either mode can take over from the other.
pub const IPVS_TABLE: &str = "tweed-ipvs";

/// Address, protocol and port that are reached from outside : what comes first.
pub const ENTRANCES: &str = "entrances";
/// Protocol and port of NodePorts : what comes first.
pub const NODE_PORT_ENTRANCES: &str = "node-port-entrances";
/// Address, protocol and port of a Service that lacks endpoints : what to do about it.
pub const NO_ENDPOINTS: &str = "no-endpoints";
/// Protocol and port of a NodePort that lacks endpoints : what to do about it.
pub const NO_ENDPOINT_NODE_PORTS: &str = "no-endpoint-node-ports";
/// Address, protocol and port that not everybody may connect to : the chain of those who may.
pub const FIREWALL: &str = "firewall";
/// The cluster IPs.
pub const CLUSTER_IPS: &str = "cluster-ips";
/// An endpoint's address, twice: a connection from an endpoint to itself.
pub const HAIRPIN: &str = "hairpin";
/// Address, protocol and port of a Service whose clients keep their endpoint : zero and its number.
pub const SESSION_SERVICES: &str = "session-services";
/// Protocol and port of such a NodePort : zero and the number of the Service port.
pub const NODE_PORT_SESSION_SERVICES: &str = "node-port-session-services";
/// A client and the number of a Service port : zero and the number of the client's endpoint.
pub const SESSIONS: &str = "sessions";
/// Beside IPVS, address, protocol and port of each virtual server that this program has made.
pub const VIRTUAL_SERVERS: &str = "virtual-servers";
/// Beside IPVS, the addresses that the node has for nothing but Services.
pub const VIRTUAL_ADDRESSES: &str = "virtual-addresses";
/// The networks of the node's addresses that NodePorts are served on.
pub const NODE_PORT_NETWORKS: &str = "node-port-networks";

/// The networks that cluster IPs are taken from.
const SERVICE_NETWORKS: &str = "service-networks";

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
const UNSERVED: &str = "unserved";
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

/// The fewest elements that a set has room for; what is not used costs 11 bytes of a hash table.
const LEAST_CAPACITY: usize = 1 << 16;
/// The same for sets about what few Services have.
const LEAST_CAPACITY_OF_FEW: usize = 1 << 12;
/// How many sessions there can be; those that find no room are served, but not remembered.
const SESSION_CAPACITY: u32 = 1 << 20;

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

    /// Their elements are the virtual servers', which Services alone don't say.
    fn virtual_sets(&self) -> Vec<(String, Set)> {
        let names = match self.balancer {
            Balancer::Maps => &[][..],
            Balancer::Ipvs => &[VIRTUAL_SERVERS, VIRTUAL_ADDRESSES],
        };
        let set = |name: &&str| ((*name).to_owned(), self.set(name, &mut Elements::default()));
        names.iter().map(set).collect()
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

    fn node_port_networks(&self) -> Option<(String, Set)> {
        let NodePortAddresses::In(_) = &self.node.node_ports else {
            return None;
        };
        let networks = self.node.node_port_networks();
        Some((NODE_PORT_NETWORKS.to_owned(), self.networks(networks)))
    }

    fn networks(&self, networks: Vec<IpNetwork>) -> Set {
        let networks = networks.into_iter();
        Set {
            key: vec![DataType::address(self.family)],
            data: None,
            size: 0,
            interval: true,
            dynamic: false,
            comment: None,
            elements: networks
                .map(|network| (vec![Value::Network(network)], Element::default()))
                .collect(),
        }
    }

    fn sessions(&self) -> Set {
        Set {
            key: vec![DataType::address(self.family), DataType::Mark],
            data: Some(number()),
            size: SESSION_CAPACITY,
            interval: false,
            dynamic: true,
            comment: None,
            elements: BTreeMap::new(),
        }
    }

    fn set(&self, name: &str, elements: &mut Elements) -> Set {
        let (key, data) = self.set_type(name);
        let elements = elements.take(name);
        Set {
            key,
            data,
            size: capacity(name, elements.len()),
            interval: false,
            dynamic: false,
            comment: None,
            elements,
        }
    }

    fn set_type(&self, name: &str) -> (Vec<DataType>, Option<SetData>) {
        let address = DataType::address(self.family);
        let port = [DataType::InetProto, DataType::InetService];
        let socket = [&[address][..], &port].concat();
        let endpoint = || Some(SetData::Value(vec![address, DataType::InetService]));
        let pool = Pool::ALL.into_iter().find(|pool| pool.endpoints() == name);
        match (name, pool) {
            (_, Some(Pool::Services | Pool::LocalServices)) => {
                ([&socket[..], &[DataType::Number]].concat(), endpoint())
            }
            (_, Some(Pool::NodePorts | Pool::LocalNodePorts)) => {
                ([&port[..], &[DataType::Number]].concat(), endpoint())
            }
            (SESSION_SERVICES, _) => (socket, Some(number())),
            (NODE_PORT_SESSION_SERVICES, _) => (port.to_vec(), Some(number())),
            ("session-slots" | "local-session-slots", _) => {
                (vec![DataType::Mark; 2], Some(number()))
            }
            ("session-endpoints" | "local-session-endpoints", _) => {
                (vec![DataType::InetProto, DataType::Mark], endpoint())
            }
            (CLUSTER_IPS | VIRTUAL_ADDRESSES, _) => (vec![address], None),
            (VIRTUAL_SERVERS, _) => (socket, None),
            (HAIRPIN, _) => (vec![address; 2], None),
            (name, _) if is_by_port(name) => (port.to_vec(), Some(SetData::Verdict)),
            _ => (socket, Some(SetData::Verdict)),
        }
    }
}

/// All sets and maps that depend on Services.
pub fn sets() -> impl Iterator<Item = &'static str> {
    let pools = Pool::ALL
        .into_iter()
        .flat_map(|pool| [pool.frontends(), pool.endpoints()]);
    pools.chain([
        ENTRANCES,
        NODE_PORT_ENTRANCES,
        NO_ENDPOINTS,
        NO_ENDPOINT_NODE_PORTS,
        FIREWALL,
        CLUSTER_IPS,
        HAIRPIN,
        SESSION_SERVICES,
        NODE_PORT_SESSION_SERVICES,
        session_slots(false),
        session_slots(true),
        session_endpoints(false),
        session_endpoints(true),
    ])
}

/// The number of a Service port and a slot : zero and the number of the endpoint, of the whole cluster or of
/// this node.
pub const fn session_slots(local: bool) -> &'static str {
    if local {
        "local-session-slots"
    } else {
        "session-slots"
    }
}

/// Protocol and number of an endpoint, of the whole cluster or of this node : its address and port.
pub const fn session_endpoints(local: bool) -> &'static str {
    if local {
        "local-session-endpoints"
    } else {
        "session-endpoints"
    }
}

/// The type of a number as rules can look it up within a key.
fn number() -> SetData {
    SetData::Value(vec![DataType::Mark; 2])
}

/// Whether the keys of a verdict map are NodePorts.
fn is_by_port(name: &str) -> bool {
    let maps = [
        Pool::NodePorts.frontends(),
        Pool::LocalNodePorts.frontends(),
        NODE_PORT_ENTRANCES,
        NO_ENDPOINT_NODE_PORTS,
    ];
    maps.contains(&name)
}

/// How many elements a set is made for that has some: twice as many and more, as the room of a set can't be
/// changed while it exists.
pub fn capacity(set: &str, length: usize) -> u32 {
    let all = [
        Pool::Services.frontends(),
        Pool::Services.endpoints(),
        CLUSTER_IPS,
        HAIRPIN,
        NO_ENDPOINTS,
        VIRTUAL_SERVERS,
        VIRTUAL_ADDRESSES,
    ];
    let least = if all.contains(&set) {
        LEAST_CAPACITY
    } else {
        LEAST_CAPACITY_OF_FEW
    };
    u32::try_from((2 * length).next_power_of_two().max(least)).unwrap_or(u32::MAX)
}

/// Goes on in a chain, and does not come back.
pub fn goto(chain: &str) -> Verdict {
    Verdict::Goto(chain.to_owned())
}

fn look_up_node_ports() -> Vec<Rule> {
    vec![
        rule([verdict_map(&PORT, NODE_PORT_ENTRANCES)]),
        rule([verdict_map(&PORT, Pool::NodePorts.frontends())]),
    ]
}

fn base(kind: ChainKind, hook: Hook, priority: i32, rules: Vec<Rule>) -> Chain {
    Chain {
        base: Some(BaseChain {
            kind,
            hook,
            priority,
            policy: Policy::Accept,
        }),
        rules,
    }
}

fn regular(rules: Vec<Rule>) -> Chain {
    Chain { base: None, rules }
}

fn rule<const N: usize>(statements: [Statement; N]) -> Rule {
    Rule {
        statements: statements.into(),
        comment: None,
    }
}

fn commented<const N: usize>(comment: &str, statements: [Statement; N]) -> Rule {
    Rule {
        comment: Some(comment.to_owned()),
        ..rule(statements)
    }
}

fn jump(chain: &str) -> Statement {
    Statement::Verdict(Verdict::Jump(chain.to_owned()))
}

fn matches(field: Field, operator: Operator) -> Statement {
    Statement::Match(Match { field, operator })
}

fn is_new() -> Statement {
    has_any(Field::CtState, Field::CT_NEW)
}

fn has_any(field: Field, bits: u32) -> Statement {
    matches(field, Operator::HasAny(bits))
}

fn in_set<const N: usize>(fields: [Field; N], set: &str) -> Statement {
    Statement::InSet {
        fields: fields.into(),
        negated: false,
        set: set.to_owned(),
    }
}

fn verdict_map(fields: &[Field], map: &str) -> Statement {
    Statement::VerdictMap {
        fields: fields.to_vec(),
        map: map.to_owned(),
    }
}

fn set_mark(mark: Mark) -> Statement {
    Statement::SetMark {
        mask: mark.value(),
        bits: mark.value(),
    }
}

fn clear_mark(mark: Mark) -> Statement {
    Statement::SetMark {
        mask: mark.value(),
        bits: 0,
    }
}
