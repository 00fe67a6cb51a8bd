//! Services.

use std::{net::IpAddr, sync::Arc, time::Duration};

use ipnetwork::IpNetwork;
use kernel::Family;
use serde::Serialize;

use super::{ObjectName, Protocol, ServicePortName};

/// A Service that the proxy has to serve; those without cluster IP are not among them (F3, F9).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: ObjectName,
    /// Its type, for people: what is served is in the other fields.
    pub kind: ServiceKind,
    /// Its cluster IPs, one per family at the most.
    pub cluster_ips: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// Addresses outside the cluster that lead to it, of both families (F19).
    pub external_ips: Vec<IpAddr>,
    /// Addresses of its load balancer that are served on the node, of both families; those with `ipMode:
    /// Proxy` are not among them (F18).
    pub load_balancer_ips: Vec<IpAddr>,
    /// Who may connect to the load balancer's addresses; empty: anybody (F20).
    pub source_ranges: Vec<IpNetwork>,
    /// Which endpoints its cluster IPs lead to (F10).
    pub internal: TrafficPolicy,
    /// Which endpoints its other addresses lead to (F11, F12).
    pub external: TrafficPolicy,
    /// How long a client keeps its endpoint after its last connection; `None`: each connection goes to any
    /// (F22).
    pub affinity: Option<Duration>,
    /// The port of the node where load balancers ask for endpoints on it, if its external traffic goes to
    /// those only (F29).
    pub health_check_node_port: Option<u16>,
}

/// The type of a Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServiceKind {
    /// For clients in the cluster.
    #[default]
    ClusterIp,
    /// At a port of every node too.
    NodePort,
    /// By a load balancer too.
    LoadBalancer,
}

/// Which endpoints connections may go to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum TrafficPolicy {
    /// Any of the cluster.
    #[default]
    Cluster,
    /// Those on the node that the connection comes to.
    Local,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name; empty for the only port, if it has none.
    pub name: Arc<str>,
    /// Its protocol.
    pub protocol: Protocol,
    /// The port number that clients connect to.
    pub port: u16,
    /// The port of every node that leads to it, if there is one (F16, F21).
    pub node_port: Option<u16>,
}

// === impl ServiceKind ===

impl ServiceKind {
    /// Its name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClusterIp => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
        }
    }
}

// === impl Service ===

impl Service {
    /// Its cluster IP of a family.
    pub fn cluster_ip(&self, family: Family) -> Option<IpAddr> {
        self.cluster_ips
            .iter()
            .copied()
            .find(|address| Family::of(address) == family)
    }

    /// What names one of its ports.
    pub fn port_name(&self, port: &ServicePort) -> ServicePortName {
        ServicePortName {
            service: self.name.clone(),
            port: Arc::clone(&port.name),
            protocol: port.protocol,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_cluster_ip_per_family() {
        let [v4, v6]: [IpAddr; 2] = ["10.96.0.1".parse().unwrap(), "fd00:96::1".parse().unwrap()];
        for (cluster_ips, expected) in [
            (vec![v4], [Some(v4), None]),
            (vec![v6], [None, Some(v6)]),
            (vec![v6, v4], [Some(v4), Some(v6)]),
        ] {
            let service = Service {
                name: ObjectName::new("default", "web"),
                cluster_ips,
                ..Service::default()
            };
            assert_eq!(
                Family::ALL.map(|family| service.cluster_ip(family)),
                expected
            );
        }
    }
}
