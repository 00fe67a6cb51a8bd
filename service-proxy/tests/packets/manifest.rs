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
    /// Further lines of its `spec`.
    pub spec: String,
    /// The address of its load balancer.
    pub load_balancer: Option<IpAddr>,
    /// The port of every node.
    pub node_port: Option<u16>,
}

/// An endpoint as a slice lists it.
#[derive(Clone)]
pub struct Listed {
    address: IpAddr,
    conditions: &'static str,
    node: &'static str,
}

// === impl Listed ===

impl Listed {
    /// A pod that takes connections.
    pub fn ready(pod: Place, family: Family) -> Self {
        Self {
            address: pod.address(family),
            conditions: "ready: true",
            node: "node",
        }
    }

    /// A pod on its way out that still answers.
    pub fn terminating(pod: Place, family: Family) -> Self {
        Self {
            address: pod.address(family),
            conditions: "ready: false, serving: true, terminating: true",
            node: "node",
        }
    }

    /// The same on another node, as far as anybody knows.
    pub fn elsewhere(self) -> Self {
        Self {
            node: "other",
            ..self
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
            spec: String::new(),
            load_balancer: None,
            node_port: None,
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
        let spec = &self.spec;
        let node_port = match self.node_port {
            Some(number) => format!(", nodePort: {number}"),
            None => String::new(),
        };
        let status = match self.load_balancer {
            Some(address) => {
                format!("status: {{loadBalancer: {{ingress: [{{ip: \"{address}\"}}]}}}}\n")
            }
            None => String::new(),
        };
        let endpoints: Vec<_> = self
            .endpoints
            .iter()
            .map(|Listed { address, conditions, node }| {
                format!("- {{addresses: [\"{address}\"], nodeName: {node}, conditions: {{{conditions}}}}}\n")
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
             \x20 - {{name: web, port: 80, targetPort: {PORT}{node_port}}}\n\
             \x20 - {{name: dns, port: 80, targetPort: {PORT}, protocol: UDP{node_port}}}\n\
             {spec}{status}\
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

/// An address that is nobody's, by number.
pub fn external_ip(family: Family, number: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(203, 0, 113, number).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 0x203, 0, 0, 0, 0, 0, number.into()).into(),
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
