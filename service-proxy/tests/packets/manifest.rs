//! Manifests of Services and their endpoints.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use kernel::Family;

use crate::{network::Place, server::PORT};

/// A Service with its endpoints, TCP and UDP at port 80.
#[derive(Clone)]
pub struct Service {
    pub name: String,
    pub cluster_ip: IpAddr,
    pub endpoints: Vec<Listed>,
}

/// An endpoint as a slice lists it.
#[derive(Clone)]
pub struct Listed {
    address: IpAddr,
    conditions: &'static str,
}

// === impl Listed ===

impl Listed {
    /// A pod that takes connections.
    pub fn ready(pod: Place, family: Family) -> Self {
        Self {
            address: pod.address(family),
            conditions: "ready: true",
        }
    }

    /// A pod on its way out that still answers.
    pub fn terminating(pod: Place, family: Family) -> Self {
        Self {
            address: pod.address(family),
            conditions: "ready: false, serving: true, terminating: true",
        }
    }
}

// === impl Service ===

impl Service {
    pub fn new(name: &str, cluster_ip: IpAddr, endpoints: impl Into<Vec<Listed>>) -> Self {
        Self {
            name: name.to_owned(),
            cluster_ip,
            endpoints: endpoints.into(),
        }
    }

    /// What clients connect to.
    pub fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.cluster_ip, 80)
    }

    /// The manifest of the Service and its slice.
    pub fn manifest(&self) -> String {
        let Self {
            name, cluster_ip, ..
        } = self;
        let family = Family::of(cluster_ip);
        let endpoints: Vec<_> = self
            .endpoints
            .iter()
            .map(|Listed { address, conditions }| {
                format!("- {{addresses: [\"{address}\"], nodeName: node, conditions: {{{conditions}}}}}\n")
            })
            .collect();
        let list = if endpoints.is_empty() {
            "[]\n".to_owned()
        } else {
            format!("\n{}", endpoints.concat())
        };
        format!(
            "apiVersion: v1\n\
             kind: Service\n\
             metadata: {{name: {name}, namespace: default}}\n\
             spec:\n\
             \x20 clusterIP: \"{cluster_ip}\"\n\
             \x20 ports:\n\
             \x20 - {{name: web, port: 80, targetPort: {PORT}}}\n\
             \x20 - {{name: dns, port: 80, targetPort: {PORT}, protocol: UDP}}\n\
             ---\n\
             apiVersion: discovery.k8s.io/v1\n\
             kind: EndpointSlice\n\
             metadata: {{name: {name}-1, namespace: default, labels: {{kubernetes.io/service-name: {name}}}}}\n\
             addressType: {family}\n\
             ports:\n\
             - {{name: web, port: {PORT}, protocol: TCP}}\n\
             - {{name: dns, port: {PORT}, protocol: UDP}}\n\
             endpoints: {list}"
        )
    }
}

/// A cluster IP by number.
pub fn cluster_ip(family: Family, number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    match family {
        Family::V4 => Ipv4Addr::new(10, 96, high, low).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, number).into(),
    }
}
