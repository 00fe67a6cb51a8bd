//! NodePorts on the loopback addresses (service-proxy F17): which there are. Pure.

use std::{collections::BTreeMap, net::SocketAddr};

use kernel::Family;

use crate::model::{Protocol, Service};

/// A port of the loopback address of a family.
pub type LoopbackPort = (Family, u16);

/// The NodePorts of a Service that can be served on loopback addresses, those of TCP; each with the cluster IP
/// and port that leads to the same endpoints where the node has no other address that NodePorts are served on.
pub fn loopback_ports(service: &Service) -> BTreeMap<LoopbackPort, SocketAddr> {
    let mut ports = BTreeMap::new();
    for port in &service.ports {
        let Some(number) = port.node_port.filter(|_| port.protocol == Protocol::Tcp) else {
            continue;
        };
        for address in &service.cluster_ips {
            let socket = SocketAddr::new(*address, port.port);
            ports.entry((Family::of(address), number)).or_insert(socket);
        }
    }
    ports
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::model::ServicePort;

    #[test]
    fn tcp_in_every_family_of_the_service() {
        let port = |protocol, port, node_port| ServicePort {
            name: "".into(),
            protocol,
            port,
            node_port,
        };
        let service = Service {
            cluster_ips: vec!["10.96.0.1".parse().unwrap(), "fd00:96::1".parse().unwrap()],
            ports: vec![
                port(Protocol::Tcp, 80, Some(30080)),
                port(Protocol::Udp, 53, Some(30053)),
                port(Protocol::Tcp, 443, None),
            ],
            ..Service::default()
        };
        let expected = [
            ((Family::V4, 30080), "10.96.0.1:80".parse().unwrap()),
            ((Family::V6, 30080), "[fd00:96::1]:80".parse().unwrap()),
        ];
        assert_eq!(loopback_ports(&service), BTreeMap::from(expected));
    }
}
