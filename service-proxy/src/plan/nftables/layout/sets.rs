//! The sets and maps of a table: their names, types and sizes.

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;
use kernel::nft::{DataType, Element, Set, SetData, Value};

use super::{Balancer, Skeleton};
use crate::plan::nftables::{elements::Elements, node_rules::NodePortAddresses, pool::Pool};

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
pub const SERVICE_NETWORKS: &str = "service-networks";

/// The fewest elements that a set has room for; what is not used costs 11 bytes of a hash table.
const LEAST_CAPACITY: usize = 1 << 16;
/// The same for sets about what few Services have.
const LEAST_CAPACITY_OF_FEW: usize = 1 << 12;
/// How many sessions there can be; those that find no room are served, but not remembered.
const SESSION_CAPACITY: u32 = 1 << 20;

// === impl Skeleton ===

impl Skeleton {
    /// Their elements are the virtual servers', which Services alone don't say.
    pub(super) fn virtual_sets(&self) -> Vec<(String, Set)> {
        let names = match self.balancer {
            Balancer::Maps => &[][..],
            Balancer::Ipvs => &[VIRTUAL_SERVERS, VIRTUAL_ADDRESSES],
        };
        let set = |name: &&str| ((*name).to_owned(), self.set(name, &mut Elements::default()));
        names.iter().map(set).collect()
    }

    pub(super) fn node_port_networks(&self) -> Option<(String, Set)> {
        let NodePortAddresses::In(_) = &self.node.node_ports else {
            return None;
        };
        let networks = self.node.node_port_networks();
        Some((NODE_PORT_NETWORKS.to_owned(), self.networks(networks)))
    }

    pub(super) fn networks(&self, networks: Vec<IpNetwork>) -> Set {
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

    pub(super) fn sessions(&self) -> Set {
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

    pub(super) fn set(&self, name: &str, elements: &mut Elements) -> Set {
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
