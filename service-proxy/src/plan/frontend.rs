//! What each address of a Service leads to.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use kernel::Family;

use crate::model::{
    Candidate, EndpointSlice, Protocol, Service, ServicePort, ServicePortName, candidates,
    cluster_endpoints,
};

/// An address, protocol and port that clients connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    /// The address.
    pub address: IpAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
}

/// Where connections to a frontend go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balance {
    /// The Service port, for people.
    pub name: ServicePortName,
    /// The endpoints that connections are spread over evenly; none: connections are refused.
    pub backends: Vec<Backend>,
}

/// An endpoint as a dataplane sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Backend {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// It is on this node, or may be: nobody said where it is.
    pub here: bool,
}

// === impl Frontend ===

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} port {}", self.address, self.protocol, self.port)
    }
}

/// The frontends of a Service in one family, as seen from a node.
pub fn frontends<'a>(
    service: &Service,
    slices: impl Iterator<Item = &'a EndpointSlice> + Clone,
    family: Family,
    node: &str,
) -> BTreeMap<Frontend, Balance> {
    let Some(address) = service.cluster_ip(family) else {
        return BTreeMap::new();
    };
    let slices = slices.filter(|slice| slice.family == family);
    let mut frontends = BTreeMap::new();
    for port in &service.ports {
        let frontend = Frontend {
            address,
            protocol: port.protocol,
            port: port.port,
        };
        // The API server refuses a Service with one port twice; of a manifest the first counts.
        frontends
            .entry(frontend)
            .or_insert_with(|| balance(service, port, slices.clone(), node));
    }
    frontends
}

fn balance<'a>(
    service: &Service,
    port: &ServicePort,
    slices: impl Iterator<Item = &'a EndpointSlice>,
    node: &str,
) -> Balance {
    let chosen = cluster_endpoints(&candidates(port, slices));
    Balance {
        name: service.port_name(port),
        backends: chosen
            .iter()
            .map(|candidate| backend(candidate, node))
            .collect(),
    }
}

fn backend(candidate: &Candidate<'_>, node: &str) -> Backend {
    Backend {
        address: candidate.endpoint.address,
        port: candidate.port,
        here: candidate
            .endpoint
            .node
            .as_deref()
            .is_none_or(|named| named == node),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::model::{Endpoint, ObjectName, SlicePort};

    fn endpoint(address: &str, node: Option<&str>) -> Endpoint {
        Endpoint {
            address: address.parse().unwrap(),
            ready: true,
            serving: true,
            terminating: false,
            node: node.map(Into::into),
        }
    }

    fn slice(family: Family, endpoints: Vec<Endpoint>) -> EndpointSlice {
        EndpointSlice {
            name: ObjectName::new("shop", format!("web-{family}")),
            service: ObjectName::new("shop", "web"),
            family,
            ports: vec![SlicePort {
                name: "http".into(),
                protocol: Protocol::Tcp,
                port: 8080,
            }],
            endpoints,
        }
    }

    #[test]
    fn a_family_sees_its_own_addresses_and_endpoints() {
        let port = |name: &str, protocol, port| ServicePort {
            name: name.into(),
            protocol,
            port,
        };
        let service = Service {
            name: ObjectName::new("shop", "web"),
            cluster_ips: vec!["10.96.0.1".parse().unwrap(), "fd00:96::1".parse().unwrap()],
            ports: vec![
                port("http", Protocol::Tcp, 80),
                port("dns", Protocol::Udp, 80),
                port("again", Protocol::Tcp, 80),
            ],
        };
        let slices = [
            slice(
                Family::V4,
                vec![
                    endpoint("10.0.0.1", Some("n1")),
                    endpoint("10.0.0.2", Some("n2")),
                    endpoint("10.0.0.3", None),
                ],
            ),
            slice(Family::V6, vec![endpoint("fd00::1", Some("n1"))]),
        ];
        for (family, address, expected) in [
            (
                Family::V4,
                "10.96.0.1",
                &[("10.0.0.1", true), ("10.0.0.2", false), ("10.0.0.3", true)][..],
            ),
            (Family::V6, "fd00:96::1", &[("fd00::1", true)]),
        ] {
            let found = frontends(&service, slices.iter(), family, "n1");
            let found: Vec<_> = found
                .iter()
                .map(|(frontend, balance)| {
                    assert_eq!(
                        (frontend.address, frontend.port),
                        (address.parse().unwrap(), 80)
                    );
                    (
                        frontend.protocol,
                        balance.name.to_string(),
                        balance.backends.clone(),
                    )
                })
                .collect();
            let backends = expected.iter().map(|(address, here)| Backend {
                address: address.parse().unwrap(),
                port: 8080,
                here: *here,
            });
            assert_eq!(
                found,
                [
                    (Protocol::Tcp, "shop/web:http".into(), backends.collect()),
                    (Protocol::Udp, "shop/web:dns".into(), vec![]),
                ]
            );
        }
    }
}
