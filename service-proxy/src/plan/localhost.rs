//! NodePorts on the loopback addresses (service-proxy F17): which there are. Pure.

use std::{collections::BTreeMap, fmt, net::SocketAddr};

use kernel::Family;

use crate::model::{Protocol, Service};

/// A port of the loopback address of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LoopbackPort {
    /// The family.
    pub family: Family,
    /// TCP or UDP.
    pub transport: Transport,
    /// The port.
    pub number: u16,
}

/// A protocol that can be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

// === impl Transport ===

impl Transport {
    /// That of a protocol, if it can be passed on: not SCTP, whose sockets would load the kernel's module, which
    /// only a Service that has endpoints of it may do.
    pub const fn of(protocol: Protocol) -> Option<Self> {
        match protocol {
            Protocol::Tcp => Some(Self::Tcp),
            Protocol::Udp => Some(Self::Udp),
            Protocol::Sctp => None,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// The NodePorts of a Service that can be served on loopback addresses; each with the cluster IP and port that
/// leads to the same endpoints where the node has no other address that NodePorts are served on.
pub fn loopback_ports(service: &Service) -> BTreeMap<LoopbackPort, SocketAddr> {
    let mut ports = BTreeMap::new();
    for port in &service.ports {
        let (Some(number), Some(transport)) = (port.node_port, Transport::of(port.protocol)) else {
            continue;
        };
        for address in &service.cluster_ips {
            let place = LoopbackPort {
                family: Family::of(address),
                transport,
                number,
            };
            let socket = SocketAddr::new(*address, port.port);
            ports.entry(place).or_insert(socket);
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
    fn tcp_and_udp_in_every_family_of_the_service() {
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
                port(Protocol::Udp, 53, Some(30080)),
                port(Protocol::Sctp, 5060, Some(30060)),
                port(Protocol::Tcp, 443, None),
            ],
            ..Service::default()
        };
        let found: Vec<_> = loopback_ports(&service)
            .into_iter()
            .map(|(place, socket)| {
                (
                    place.family,
                    place.transport,
                    place.number,
                    socket.to_string(),
                )
            })
            .collect();
        let (tcp, udp) = (Transport::Tcp, Transport::Udp);
        let expected = [
            (Family::V4, tcp, 30080, "10.96.0.1:80"),
            (Family::V4, udp, 30080, "10.96.0.1:53"),
            (Family::V6, tcp, 30080, "[fd00:96::1]:80"),
            (Family::V6, udp, 30080, "[fd00:96::1]:53"),
        ];
        let expected = expected.map(|(family, transport, number, socket)| {
            (family, transport, number, socket.to_owned())
        });
        assert_eq!(found, expected);
    }
}
