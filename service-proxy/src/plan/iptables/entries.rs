//! What of a Service port stands in chains that all share.

use std::net::IpAddr;

use kernel::Family;

use super::{
    Dispatch, Settings,
    name::{self, Names},
    rule::Rule,
    ruleset::{ChainId, Table},
    service_port::ServicePort,
};
use crate::{
    model::{Protocol, TrafficPolicy},
    plan::{Otherwise, nftables::loopback},
};

/// A list of rules by address or port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum List {
    /// Addresses that lead to endpoints.
    Services,
    /// NodePorts that do.
    NodePorts,
    /// Cluster IPs that lack endpoints.
    Unserved,
    /// Other addresses that do.
    UnservedExternal,
    /// NodePorts that do.
    UnservedNodePorts,
    /// Load balancers' addresses that not everybody may connect to.
    Firewall,
    /// Ports where load balancers ask.
    HealthChecks,
    /// Beside IPVS, addresses whose virtual servers have only the endpoints on this node.
    LocalServices,
    /// The same of NodePorts.
    LocalNodePorts,
}

/// What is looked up in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// The address that a connection goes to.
    Address(IpAddr),
    /// The protocol and port that it goes to.
    Port(Protocol, u16),
}

/// A rule of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The list.
    pub list: List,
    /// When the rule can match.
    pub key: Key,
    /// The rule.
    pub rule: String,
}

/// Makes the rules of a Service port.
struct Maker<'a> {
    settings: &'a Settings,
    port: &'a ServicePort,
    names: Names,
    large: bool,
    entries: Vec<Entry>,
}

/// What a Service port adds to the lists, of a large cluster or not.
pub fn entries(settings: &Settings, port: &ServicePort, large: bool) -> Vec<Entry> {
    let mut maker = Maker {
        settings,
        port,
        names: Names::of(&port.name),
        large,
        entries: Vec::new(),
    };
    if settings.beside_ipvs {
        maker.by_source();
    } else {
        maker.internal();
        maker.external();
        maker.node_port();
        maker.firewall();
        maker.health_check();
    }
    maker.entries
}

/// What a cluster IP adds to [`List::Unserved`] behind all of its ports: others are refused. kube-proxy's
/// iptables mode lets them pass, so the classic layout does.
pub fn refusal(settings: &Settings, port: &ServicePort) -> Option<Entry> {
    let (address, _) = port.cluster_ip;
    let service = &port.name.service;
    (settings.dispatch == Dispatch::Tree && !settings.beside_ipvs).then(|| Entry {
        list: List::Unserved,
        key: Key::Address(address),
        rule: Rule::named(format_args!("{service} has no such port"))
            .destination(address)
            .jump("REJECT"),
    })
}

// === impl Maker ===

impl Maker<'_> {
    fn add(&mut self, list: List, key: Key, rule: String) {
        self.entries.push(Entry { list, key, rule });
    }

    fn comment(&self, words: &str) -> Rule {
        Rule::named(format_args!("{} {words}", self.port.name))
    }

    /// For connections to an address and the port.
    fn towards(&self, comment: &str, address: IpAddr) -> Rule {
        let (_, port) = self.port.cluster_ip;
        let comment = format_args!("{} {comment}", self.port.name);
        Rule::labelled(self.large, comment, |rule| {
            rule.protocol(self.port.name.protocol)
                .destination(address)
                .port(port)
        })
    }

    fn internal(&mut self) {
        let (address, _) = self.port.cluster_ip;
        let key = Key::Address(address);
        if self.port.internal_backends().is_empty() {
            let (reason, target) = self.lacking();
            let rule = self.towards(reason, address).jump(target);
            self.add(List::Unserved, key, rule);
            return;
        }
        let chain = if self.port.internal == TrafficPolicy::Local {
            self.names.local()
        } else {
            self.names.cluster()
        };
        let rule = self.towards("cluster IP", address).jump(chain);
        self.add(List::Services, key, rule);
    }

    fn external(&mut self) {
        for (address, comment, firewall) in self.external_addresses() {
            if self.port.has_endpoints() {
                self.lead(List::Services, address, comment, firewall);
            }
            if self.lacks_external() {
                self.unserved_external(address, firewall);
            }
        }
    }

    /// What depends on who connects, which no virtual server can say.
    fn by_source(&mut self) {
        if !self.port.is_by_source() {
            return;
        }
        for (address, comment, firewall) in self.external_addresses() {
            self.lead(List::LocalServices, address, comment, firewall);
        }
        if let Some(number) = self.port.node_port {
            let protocol = self.port.name.protocol;
            let rule = Rule::named(&self.port.name).protocol(protocol).port(number);
            let rule = rule.jump(self.names.external());
            self.add(List::LocalNodePorts, Key::Port(protocol, number), rule);
        }
    }

    /// The addresses but the cluster IP: each with what it is, and whether not everybody may connect.
    fn external_addresses(&self) -> Vec<(IpAddr, &'static str, bool)> {
        let firewall = self.port.sources.is_some();
        let external = self.port.external_ips.iter();
        let external = external.map(|it| (*it, "external IP", false));
        let balancers = self.port.load_balancer_ips.iter();
        let balancers = balancers.map(|it| (*it, "loadbalancer IP", firewall));
        external.chain(balancers).collect()
    }

    /// Leads from an address to the chain for what comes from outside.
    fn lead(&mut self, list: List, address: IpAddr, comment: &str, firewall: bool) {
        let chain = if firewall {
            self.names.firewall()
        } else {
            self.names.external()
        };
        let rule = self.towards(comment, address).jump(chain);
        self.add(list, Key::Address(address), rule);
    }

    /// Who may not connect is not told that there is nobody; the classic layout tells (F20).
    fn unserved_external(&mut self, address: IpAddr, firewall: bool) {
        let (reason, target) = self.lacking();
        let key = Key::Address(address);
        let rule = self.towards(reason, address);
        let sources = self.port.sources.as_ref().filter(|_| firewall);
        let Some(sources) = sources.filter(|_| self.settings.dispatch == Dispatch::Tree) else {
            self.add(List::UnservedExternal, key, rule.jump(target));
            return;
        };
        for range in sources {
            let rule = rule.clone().with(format_args!("-s {range}")).jump(target);
            self.add(List::UnservedExternal, key, rule);
        }
        self.add(List::UnservedExternal, key, rule.jump("DROP"));
    }

    fn node_port(&mut self) {
        let Some(number) = self.port.node_port else {
            return;
        };
        let protocol = self.port.name.protocol;
        let key = Key::Port(protocol, number);
        let to = |rule: Rule| rule.protocol(protocol).port(number);
        let mut rules = Vec::new();
        if self.port.has_endpoints() {
            let chain = self.names.external();
            if self.settings.accounting && self.settings.serves_loopback() {
                let counted = Rule::named(&self.port.name)
                    .protocol(protocol)
                    .destination_network(loopback(Family::V4))
                    .port(number)
                    .with(format_args!(
                        "{} {}",
                        name::ACCOUNTED,
                        name::LOCALHOST_ACCEPTED
                    ));
                rules.push((List::NodePorts, counted.jump(&chain)));
            }
            let rule = Rule::labelled(self.large, &self.port.name, to);
            rules.push((List::NodePorts, rule.jump(&chain)));
        }
        if self.lacks_external() {
            let (reason, target) = self.lacking();
            let rule = self.comment(reason);
            let (list, rule) = match self.settings.dispatch {
                Dispatch::Flat => (List::UnservedExternal, rule.destination_local()),
                Dispatch::Tree => (List::UnservedNodePorts, rule),
            };
            let rule = rule.protocol(protocol).port(number).jump(target);
            rules.push((list, rule));
        }
        for (list, rule) in rules {
            self.add(list, key, rule);
        }
    }

    fn firewall(&mut self) {
        if self.port.sources.is_none() || !self.port.has_endpoints() {
            return;
        }
        let comment = format!("traffic not accepted by {}", self.names.firewall());
        for &address in &self.port.load_balancer_ips {
            let rule = self.towards(&comment, address).jump("DROP");
            self.add(List::Firewall, Key::Address(address), rule);
        }
    }

    fn health_check(&mut self) {
        if let Some(number) = self.port.health_check {
            let rule = self
                .comment("health check node port")
                .with("-m tcp -p tcp")
                .port(number)
                .jump("ACCEPT");
            self.add(List::HealthChecks, Key::Port(Protocol::Tcp, number), rule);
        }
    }

    fn lacks_external(&self) -> bool {
        match self.port.external {
            TrafficPolicy::Cluster => self.port.cluster.is_empty(),
            TrafficPolicy::Local => self.port.local.is_empty(),
        }
    }

    /// Why connections are not served, and what becomes of them (1.2).
    fn lacking(&self) -> (&'static str, &'static str) {
        match self.port.otherwise {
            Otherwise::Refuse => ("has no endpoints", "REJECT"),
            Otherwise::Drop => ("has no local endpoints", "DROP"),
        }
    }
}

// === impl List ===

impl List {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Services,
        Self::NodePorts,
        Self::Unserved,
        Self::UnservedExternal,
        Self::UnservedNodePorts,
        Self::Firewall,
        Self::HealthChecks,
        Self::LocalServices,
        Self::LocalNodePorts,
    ];

    /// The chain that it is entered by.
    pub fn entry(self) -> ChainId {
        match self {
            Self::Services => Table::Nat.chain(name::SERVICES),
            Self::NodePorts => Table::Nat.chain(name::NODE_PORTS),
            Self::Unserved => Table::Filter.chain(name::SERVICES),
            Self::UnservedExternal => Table::Filter.chain(name::EXTERNAL_SERVICES),
            Self::UnservedNodePorts => Table::Filter.chain(name::EXTERNAL_NODE_PORTS),
            Self::Firewall => Table::Filter.chain(name::PROXY_FIREWALL),
            Self::HealthChecks => Table::Filter.chain(name::NODE_PORTS),
            Self::LocalServices => Table::Nat.chain(name::LOCAL_SERVICES),
            Self::LocalNodePorts => Table::Nat.chain(name::LOCAL_NODE_PORTS),
        }
    }

    /// How the names of its other chains begin.
    pub const fn tree_prefix(self) -> &'static str {
        match self {
            Self::Services | Self::Unserved => "KUBE-NET-",
            Self::NodePorts => "KUBE-PORT-",
            Self::UnservedExternal => "KUBE-XNET-",
            Self::UnservedNodePorts => "KUBE-XPORT-",
            Self::Firewall => "KUBE-FNET-",
            Self::HealthChecks => "KUBE-HPORT-",
            Self::LocalServices => "KUBE-LNET-",
            Self::LocalNodePorts => "KUBE-LPORT-",
        }
    }
}
