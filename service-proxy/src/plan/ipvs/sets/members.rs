//! What Services put into sets.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use ipnetwork::IpNetwork;
use kernel::{
    Family,
    ipset::{Definition, Member, Protocol as Tracked, Set},
};

use super::{SetName, capacity};
use crate::{
    model::{ObjectName, Protocol, TrafficPolicy},
    plan::{
        Address, Balance, Frontend, Otherwise,
        iptables::ServicePort,
        ipvs::virtuals::{address, tracked},
    },
};

/// A member of a set.
pub type Placed = (SetName, Member);

/// The node as far as members depend on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its addresses, but those of Services.
    pub addresses: BTreeSet<IpAddr>,
    /// Those of them that NodePorts are served on.
    pub served: Vec<IpAddr>,
}

/// Who has put a member somewhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// A Service.
    Service(ObjectName),
    /// What clients connect to, which several Services may claim, and one has.
    Frontend(Frontend),
}

/// The members of all sets, by who has put them there: a member that several have put there stays as long as one
/// of them does.
#[derive(Debug, Default)]
pub struct Members {
    by_owner: BTreeMap<Owner, BTreeSet<Placed>>,
    counts: BTreeMap<Placed, usize>,
    lengths: BTreeMap<SetName, usize>,
}

/// Which members come, and which go.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Those that come.
    pub added: BTreeSet<Placed>,
    /// Those that go.
    pub removed: BTreeSet<Placed>,
    /// A set has to be made anew, with more room.
    pub outgrown: bool,
}

// === impl Members ===

impl Members {
    /// Puts what some owners have now in the place of what they had.
    pub fn update(&mut self, owners: BTreeMap<Owner, BTreeSet<Placed>>) -> Difference {
        let mut difference = Difference::default();
        let mut touched = BTreeMap::new();
        for (owner, now) in owners {
            let before = self.by_owner.remove(&owner).unwrap_or_default();
            for placed in before.symmetric_difference(&now) {
                let count = self.counts.entry(*placed).or_default();
                touched.entry(*placed).or_insert(*count > 0);
                if now.contains(placed) {
                    *count += 1;
                } else {
                    *count = count.saturating_sub(1);
                }
            }
            if !now.is_empty() {
                self.by_owner.insert(owner, now);
            }
        }
        for (placed, was) in touched {
            let is = self.counts.get(&placed).is_some_and(|count| *count > 0);
            if !is {
                self.counts.remove(&placed);
            }
            let length = self.lengths.entry(placed.0).or_default();
            let room = capacity(*length);
            match (was, is) {
                (false, true) => {
                    *length += 1;
                    difference.added.insert(placed);
                }
                (true, false) => {
                    *length = length.saturating_sub(1);
                    difference.removed.insert(placed);
                }
                _ => {}
            }
            difference.outgrown |= capacity(*length) > room;
        }
        difference
    }

    /// All sets of a family, by name.
    pub fn sets(&self, family: Family) -> BTreeMap<String, Set> {
        let mut members: BTreeMap<SetName, BTreeSet<Member>> = BTreeMap::new();
        for (set, member) in self.counts.keys() {
            members.entry(*set).or_default().insert(*member);
        }
        let sets = SetName::ALL.into_iter().map(|name| {
            let members = members.remove(&name).unwrap_or_default();
            (name.of(family), filled(name, family, members))
        });
        sets.collect()
    }
}

/// A set with members, and room for more.
pub fn filled(name: SetName, family: Family, members: BTreeSet<Member>) -> Set {
    let definition = Definition {
        max: capacity(members.len()),
        ..Definition::new(name.kind, family)
    };
    Set {
        definition,
        members,
    }
}

/// What the ports of a Service put into sets.
pub fn of_ports(ports: &[ServicePort], node: &Node) -> BTreeSet<Placed> {
    let mut members = BTreeSet::new();
    for port in ports {
        members.extend(addresses(port));
        members.extend(node_ports(port, node));
        members.extend(sources(port));
        members.extend(hairpins(port, node));
        let health = port.health_check.map(Member::Port);
        members.extend(health.map(|it| (SetName::HEALTH_CHECK_NODE_PORT, it)));
    }
    members
}

/// What a frontend that somebody has puts into sets: that it lacks endpoints, if it does.
pub fn of_frontend(frontend: &Frontend, balance: &Balance, node: &Node) -> BTreeSet<Placed> {
    if !balance.is_lacking() {
        return BTreeSet::new();
    }
    let set = match balance.otherwise {
        Otherwise::Refuse => SetName::NO_ENDPOINTS,
        Otherwise::Drop => SetName::NO_LOCAL_ENDPOINTS,
    };
    let ips = match frontend.address {
        Address::Own(ip) => vec![ip],
        Address::Node => node.served.clone(),
    };
    let members = ips.into_iter().map(|ip| {
        let address = address(frontend, ip);
        (set, Member::IpPort(address.protocol, address.socket))
    });
    members.collect()
}

/// Whether a member of a Service port stands for a frontend of it, or for its endpoints.
pub fn is_for((set, member): &Placed, frontend: &Frontend, node: &Node) -> bool {
    if *set == SetName::LOOP_BACK {
        return true;
    }
    let at = |socket: &SocketAddr| match frontend.address {
        Address::Own(ip) => *socket == SocketAddr::new(ip, frontend.port),
        Address::Node => socket.port() == frontend.port && node.served.contains(&socket.ip()),
    };
    match member {
        Member::IpPort(_, socket)
        | Member::IpPortIp(_, socket, _)
        | Member::IpPortNet(_, socket, _) => at(socket),
        Member::Port(port) => {
            *set != SetName::HEALTH_CHECK_NODE_PORT
                && frontend.address == Address::Node
                && *port == frontend.port
        }
        Member::Ip(_) => false,
    }
}

fn protocol_of(port: &ServicePort) -> Tracked {
    tracked(port.name.protocol)
}

fn at(port: &ServicePort, ip: IpAddr) -> Member {
    let (_, number) = port.cluster_ip;
    Member::IpPort(protocol_of(port), SocketAddr::new(ip, number))
}

fn addresses(port: &ServicePort) -> Vec<Placed> {
    let local = port.external == TrafficPolicy::Local;
    let mut members = vec![(SetName::CLUSTER_IP, at(port, port.cluster_ip.0))];
    let external = match local {
        true => SetName::EXTERNAL_IP_LOCAL,
        false => SetName::EXTERNAL_IP,
    };
    members.extend(port.external_ips.iter().map(|ip| (external, at(port, *ip))));
    for ip in &port.load_balancer_ips {
        let member = at(port, *ip);
        members.push((SetName::LOAD_BALANCER, member));
        members.extend(local.then_some((SetName::LOAD_BALANCER_LOCAL, member)));
        let firewall = port.sources.is_some();
        members.extend(firewall.then_some((SetName::LOAD_BALANCER_FW, member)));
    }
    members
}

fn node_ports(port: &ServicePort, node: &Node) -> Vec<Placed> {
    let Some(number) = port.node_port else {
        return Vec::new();
    };
    let [all, local] = SetName::node_ports(port.name.protocol);
    let local = (port.external == TrafficPolicy::Local).then_some(local);
    let sets = [Some(all), local].into_iter().flatten();
    let members: Vec<_> = match port.name.protocol {
        Protocol::Tcp | Protocol::Udp => vec![Member::Port(number)],
        Protocol::Sctp => {
            let ips = node.served.iter();
            ips.map(|ip| Member::IpPort(protocol_of(port), SocketAddr::new(*ip, number)))
                .collect()
        }
    };
    sets.flat_map(|set| members.iter().map(move |member| (set, *member)))
        .collect()
}

/// Who may connect to load balancers' addresses: single addresses apart from networks, as kube-proxy has it.
fn sources(port: &ServicePort) -> Vec<Placed> {
    let (_, number) = port.cluster_ip;
    let protocol = protocol_of(port);
    let mut members = Vec::new();
    for ip in &port.load_balancer_ips {
        let socket = SocketAddr::new(*ip, number);
        for range in port.sources.iter().flatten() {
            members.push(if range.ip() == *ip && is_single(range) {
                let member = Member::IpPortIp(protocol, socket, *ip);
                (SetName::LOAD_BALANCER_SOURCE_IP, member)
            } else {
                let network = IpNetwork::new(range.network(), range.prefix()).unwrap_or(*range);
                let member = Member::IpPortNet(protocol, socket, network);
                (SetName::LOAD_BALANCER_SOURCE_CIDR, member)
            });
        }
    }
    members
}

fn is_single(network: &IpNetwork) -> bool {
    network.prefix() == Family::of_network(network).max_prefix()
}

/// Endpoints that could reach themselves: those on this node, but the node itself, which needs no other address to
/// do so.
fn hairpins(port: &ServicePort, node: &Node) -> Vec<Placed> {
    let here = port.backends().into_iter().filter(|it| it.here);
    let pods = here.filter(|it| !node.addresses.contains(&it.address));
    let protocol = protocol_of(port);
    let members = pods.map(|it| {
        let socket = SocketAddr::new(it.address, it.port);
        let member = Member::IpPortIp(protocol, socket, it.address);
        (SetName::LOOP_BACK, member)
    });
    members.collect()
}
