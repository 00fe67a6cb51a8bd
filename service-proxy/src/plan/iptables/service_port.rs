//! One port of a Service in one family, as its chains and rules are made from it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use ipnetwork::IpNetwork;

use crate::{
    model::{EndpointSlice, Here, Service, ServicePortName, TrafficPolicy},
    plan::{Address, Backend, Balance, Entrance, Frontend, Otherwise, frontends},
};
use kernel::Family;

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name.
    pub name: ServicePortName,
    /// The cluster IP and port.
    pub cluster_ip: (IpAddr, u16),
    /// Whether the cluster IP leads to endpoints on this node only.
    pub internal: TrafficPolicy,
    /// Whether the other addresses do.
    pub external: TrafficPolicy,
    /// Addresses outside the cluster.
    pub external_ips: Vec<IpAddr>,
    /// Addresses of the load balancer.
    pub load_balancer_ips: Vec<IpAddr>,
    /// Who may connect to the load balancer's addresses, if not anybody.
    pub sources: Option<Vec<IpNetwork>>,
    /// The NodePort.
    pub node_port: Option<u16>,
    /// The port of the node where load balancers ask for endpoints.
    pub health_check: Option<u16>,
    /// How long a client keeps its endpoint.
    pub affinity: Option<Duration>,
    /// Endpoints in the cluster; empty if no address leads there.
    pub cluster: Vec<Backend>,
    /// Endpoints on this node; empty if no address leads there.
    pub local: Vec<Backend>,
    /// What becomes of connections that there is no endpoint for.
    pub otherwise: Otherwise,
}

// === impl ServicePort ===

impl ServicePort {
    /// All ports of a Service in a family, as seen from a node.
    pub fn all<'a>(
        service: &Service,
        slices: impl Iterator<Item = &'a EndpointSlice> + Clone,
        family: Family,
        here: Here<'_>,
    ) -> Vec<Self> {
        Self::of(service, family, &frontends(service, slices, family, here))
    }

    /// All ports of a Service in a family, from what clients connect to.
    pub fn of(
        service: &Service,
        family: Family,
        frontends: &BTreeMap<Frontend, Balance>,
    ) -> Vec<Self> {
        let mut by_name: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (frontend, balance) in frontends {
            let of_port = by_name.entry(&balance.name).or_default();
            of_port.push((frontend, balance));
        }
        let ports = by_name.into_values();
        ports
            .filter_map(|frontends| Self::new(service, family, &frontends))
            .collect()
    }

    fn new(service: &Service, family: Family, frontends: &[(&Frontend, &Balance)]) -> Option<Self> {
        let cluster_ip = service.cluster_ip(family)?;
        let is_own = |address: IpAddr| {
            move |(it, _): &&(&Frontend, &Balance)| it.address == Address::Own(address)
        };
        let (frontend, balance) = frontends.iter().find(is_own(cluster_ip))?;
        let mut port = Self {
            name: balance.name.clone(),
            cluster_ip: (cluster_ip, frontend.port),
            internal: service.internal,
            external: service.external,
            external_ips: Vec::new(),
            load_balancer_ips: Vec::new(),
            sources: None,
            node_port: None,
            health_check: service.health_check_node_port,
            affinity: balance.affinity,
            cluster: Vec::new(),
            local: Vec::new(),
            otherwise: balance.otherwise,
        };
        for (frontend, balance) in frontends {
            port.add(service, frontend, balance);
        }
        Some(port)
    }

    fn add(&mut self, service: &Service, frontend: &Frontend, balance: &Balance) {
        match frontend.address {
            Address::Node => self.node_port = Some(frontend.port),
            Address::Own(_) if balance.entrance == Entrance::Internal => {}
            Address::Own(address) if service.load_balancer_ips.contains(&address) => {
                self.load_balancer_ips.push(address);
                self.sources.clone_from(&balance.sources);
            }
            Address::Own(address) => self.external_ips.push(address),
        }
        if balance.scope == TrafficPolicy::Local {
            self.local.clone_from(&balance.backends);
        } else {
            self.cluster.clone_from(&balance.backends);
        }
        if balance.entrance == Entrance::ExternalLocal {
            self.local.clone_from(&balance.local);
        }
    }

    /// Whether there is an endpoint anywhere.
    pub fn has_endpoints(&self) -> bool {
        self.otherwise == Otherwise::Drop
    }

    /// The endpoints of the cluster IP.
    pub fn internal_backends(&self) -> &[Backend] {
        match self.internal {
            TrafficPolicy::Cluster => &self.cluster,
            TrafficPolicy::Local => &self.local,
        }
    }

    /// Whether it has addresses other than the cluster IP.
    pub fn is_external(&self) -> bool {
        self.node_port.is_some()
            || !self.external_ips.is_empty()
            || !self.load_balancer_ips.is_empty()
    }

    /// Whether endpoints depend on who connects: from outside those on this node, for pods and the node all (F11).
    pub fn is_by_source(&self) -> bool {
        self.is_external() && self.external == TrafficPolicy::Local && !self.cluster.is_empty()
    }

    /// Its endpoints, each once.
    pub fn backends(&self) -> BTreeSet<Backend> {
        self.cluster.iter().chain(&self.local).copied().collect()
    }

    /// All that clients connect to.
    pub fn frontends(&self) -> impl Iterator<Item = Frontend> {
        let own = [self.cluster_ip.0]
            .into_iter()
            .chain(self.external_ips.iter().copied())
            .chain(self.load_balancer_ips.iter().copied())
            .map(|address| (Address::Own(address), self.cluster_ip.1));
        let node_port = self.node_port.map(|port| (Address::Node, port));
        own.chain(node_port).map(|(address, port)| Frontend {
            address,
            protocol: self.name.protocol,
            port,
        })
    }
}
