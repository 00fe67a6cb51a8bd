//! What a load balancer gets to know at a Service's `healthCheckNodePort` (service-proxy F29).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use kernel::Family;

use crate::model::{EndpointSlice, Service, candidates};

/// What is told about a Service whose external traffic goes to endpoints on the node only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// The port of the node that it is told at.
    pub port: u16,
    /// How many addresses of ready endpoints there are on the node, by family of the Service.
    pub endpoints: BTreeMap<Family, usize>,
}

impl HealthCheck {
    /// Of a Service as seen from a node; `None` if it has none. Endpoints on their way out don't count, even
    /// while they are all that is left: the load balancer is to stop sending.
    pub fn of<'a>(
        service: &Service,
        slices: impl Iterator<Item = &'a EndpointSlice> + Clone,
        node: &str,
    ) -> Option<Self> {
        let port = service.health_check_node_port?;
        let families = Family::ALL
            .into_iter()
            .filter(|family| service.cluster_ip(*family).is_some());
        let count = |family| {
            let slices = slices.clone().filter(|slice| slice.family == family);
            (family, ready_here(service, slices, node).len())
        };
        Some(Self {
            port,
            endpoints: families.map(count).collect(),
        })
    }
}

/// The addresses of ready endpoints on a node: one that serves several ports is one.
fn ready_here<'a>(
    service: &Service,
    slices: impl Iterator<Item = &'a EndpointSlice> + Clone,
    node: &str,
) -> BTreeSet<IpAddr> {
    let listed = service
        .ports
        .iter()
        .flat_map(|port| candidates(port, slices.clone()));
    listed
        .map(|candidate| candidate.endpoint)
        .filter(|endpoint| endpoint.ready && endpoint.node.as_deref() == Some(node))
        .map(|endpoint| endpoint.address)
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::model::{Endpoint, ObjectName, Protocol, ServicePort, SlicePort};

    /// `r` ready, `t` on its way out; then the node's number.
    fn endpoint(number: usize, text: &str, family: Family) -> Endpoint {
        let address = match family {
            Family::V4 => format!("10.0.0.{number}"),
            Family::V6 => format!("fd00::{number}"),
        };
        Endpoint {
            address: address.parse().unwrap(),
            ready: text.starts_with('r'),
            serving: true,
            terminating: text.starts_with('t'),
            node: Some(format!("n{}", &text[1..]).into()),
            hints: None,
        }
    }

    fn slice(family: Family, endpoints: &str) -> EndpointSlice {
        let port = |name: &str, port| SlicePort {
            name: name.into(),
            protocol: Protocol::Tcp,
            port,
        };
        EndpointSlice {
            triggered: None,
            name: ObjectName::new("shop", format!("web-{family}")),
            service: ObjectName::new("shop", "web"),
            family,
            ports: vec![port("http", 8080), port("https", 8443)],
            endpoints: endpoints
                .split_whitespace()
                .enumerate()
                .map(|(number, text)| endpoint(number, text, family))
                .collect(),
        }
    }

    #[test]
    fn counts_ready_addresses_on_the_node() {
        let port = |name: &str, port| ServicePort {
            name: name.into(),
            protocol: Protocol::Tcp,
            port,
            node_port: None,
        };
        for (v4, v6, expected) in [
            ("r1 r1 r2", "", (2, 0)),
            ("r1 t1 r2", "r1", (1, 1)),
            ("t1 t1", "r2", (0, 0)),
            ("", "", (0, 0)),
        ] {
            let service = Service {
                cluster_ips: vec!["10.96.0.1".parse().unwrap(), "fd00:96::1".parse().unwrap()],
                ports: vec![port("http", 80), port("https", 443)],
                health_check_node_port: Some(30_000),
                ..Service::default()
            };
            let slices = [slice(Family::V4, v4), slice(Family::V6, v6)];
            let check = HealthCheck::of(&service, slices.iter(), "n1").unwrap();
            assert_eq!(check.port, 30_000);
            assert_eq!(
                check.endpoints,
                BTreeMap::from([(Family::V4, expected.0), (Family::V6, expected.1)]),
                "{v4} / {v6}"
            );
            let single = Service {
                cluster_ips: vec!["10.96.0.1".parse().unwrap()],
                ..service
            };
            let check = HealthCheck::of(&single, slices.iter(), "n1").unwrap();
            assert_eq!(check.endpoints, BTreeMap::from([(Family::V4, expected.0)]));
            let none = Service {
                health_check_node_port: None,
                ..single
            };
            assert_eq!(HealthCheck::of(&none, slices.iter(), "n1"), None);
        }
    }
}
