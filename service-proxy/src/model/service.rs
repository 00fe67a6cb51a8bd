//! Services.

use std::net::IpAddr;

use kernel::Family;

use super::{ObjectName, Protocol, ServicePortName};

/// A Service that the proxy has to serve; those without cluster IP are not among them (F3, F9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: ObjectName,
    /// Its cluster IPs, one per family at the most.
    pub cluster_ips: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name; empty for the only port, if it has none.
    pub name: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// The port number that clients connect to.
    pub port: u16,
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
            port: port.name.clone(),
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
                ports: Vec::new(),
            };
            assert_eq!(
                Family::ALL.map(|family| service.cluster_ip(family)),
                expected
            );
        }
    }
}
