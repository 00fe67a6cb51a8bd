//! Which tracked flows lead to endpoints that serve no longer (F34).
//!
//! A flow lasts as long as packets come, and all of its packets go where the first one went. A client that
//! sends UDP from one port for ever would never reach another endpoint, and one that waits on a TCP connection
//! would wait for long.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use kernel::{Family, conntrack::Flow};

use super::{Address, Frontend};
use crate::model::{EndpointSlice, Protocol, Service, candidates};

/// Frontends of one protocol, each with the endpoints that serve it.
#[derive(Debug)]
pub struct TrackedServices {
    protocol: Protocol,
    serving: BTreeMap<Frontend, BTreeSet<SocketAddr>>,
}

// === impl TrackedServices ===

impl TrackedServices {
    /// None yet.
    pub fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            serving: BTreeMap::new(),
        }
    }

    /// Adds the ports of a Service that are of the protocol. Traffic policies are of no account.
    pub fn add<'a>(
        &mut self,
        service: &Service,
        slices: impl Iterator<Item = &'a EndpointSlice> + Clone,
        family: Family,
    ) {
        let Some(cluster_ip) = service.cluster_ip(family) else {
            return;
        };
        let slices = slices.filter(|slice| slice.family == family);
        let others = service
            .external_ips
            .iter()
            .chain(&service.load_balancer_ips);
        let addresses: Vec<_> = others
            .copied()
            .filter(|address| Family::of(address) == family)
            .chain([cluster_ip])
            .collect();
        let protocol = self.protocol;
        let ports = service
            .ports
            .iter()
            .filter(|port| port.protocol == protocol);
        for port in ports {
            let serving = candidates(port, slices.clone())
                .iter()
                .filter(|candidate| candidate.endpoint.ready || candidate.endpoint.serving)
                .map(|candidate| SocketAddr::new(candidate.endpoint.address, candidate.port))
                .collect::<BTreeSet<_>>();
            for address in &addresses {
                self.insert(Address::Own(*address), port.port, &serving);
            }
            if let Some(node_port) = port.node_port {
                self.insert(Address::Node, node_port, &serving);
            }
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.serving.is_empty()
    }

    /// Whether a flow goes to one of the frontends, but to none of the endpoints that serve it. UDP may be from
    /// before there were rules that send it anywhere.
    pub fn is_stale(&self, flow: &Flow) -> bool {
        if self.protocol != Protocol::Udp && !flow.status.destination_nat() {
            return false;
        }
        self.is_gone(flow.original.destination, &flow.reply.source)
    }

    /// Whether it is one of the frontends that is connected to, and an endpoint serves it no longer.
    pub fn is_gone(&self, to: SocketAddr, endpoint: &SocketAddr) -> bool {
        let serving = [Address::Own(to.ip()), Address::Node]
            .into_iter()
            .find_map(|address| self.serving.get(&self.frontend(address, to.port())));
        serving.is_some_and(|serving| !serving.contains(endpoint))
    }

    fn insert(&mut self, address: Address, port: u16, serving: &BTreeSet<SocketAddr>) {
        let frontend = self.frontend(address, port);
        self.serving.insert(frontend, serving.clone());
    }

    const fn frontend(&self, address: Address, port: u16) -> Frontend {
        Frontend {
            address,
            protocol: self.protocol,
            port,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use kernel::conntrack::{self, Status, Tuple};

    use super::*;
    use crate::model::{Endpoint, ObjectName, ServicePort, SlicePort};

    fn flow(to: &str, answered_by: &str) -> Flow {
        let client: SocketAddr = "10.244.9.9:40000".parse().unwrap();
        let (to, answered_by) = (to.parse().unwrap(), answered_by.parse().unwrap());
        Flow {
            family: Family::V4,
            protocol: conntrack::Protocol::Udp,
            original: Tuple {
                source: client,
                destination: to,
            },
            reply: Tuple {
                source: answered_by,
                destination: client,
            },
            status: Status::default(),
            mark: 0,
            zone: 0,
            id: 0,
            timeout: 30,
        }
    }

    fn services(conditions: &[(bool, bool)]) -> TrackedServices {
        let port = |protocol, node_port| ServicePort {
            name: "dns".into(),
            protocol,
            port: 53,
            node_port,
        };
        let service = Service {
            cluster_ips: vec!["10.96.0.10".parse().unwrap()],
            external_ips: vec!["192.0.2.1".parse().unwrap()],
            load_balancer_ips: vec!["203.0.113.1".parse().unwrap()],
            ports: vec![port(Protocol::Tcp, None), port(Protocol::Udp, Some(30053))],
            ..Service::default()
        };
        let endpoints = (1..).zip(conditions);
        let slice = EndpointSlice {
            triggered: None,
            name: ObjectName::default(),
            service: ObjectName::default(),
            family: Family::V4,
            ports: vec![SlicePort {
                name: "dns".into(),
                protocol: Protocol::Udp,
                port: 5353,
            }],
            endpoints: endpoints
                .map(|(host, (ready, serving))| Endpoint {
                    address: [10, 244, 0, host].into(),
                    ready: *ready,
                    serving: *serving,
                    terminating: true,
                    node: None,
                    hints: None,
                })
                .collect(),
        };
        let mut services = TrackedServices::new(Protocol::Udp);
        services.add(&service, [slice].iter(), Family::V4);
        services
    }

    #[test]
    fn flows_to_what_serves_no_longer_are_stale() {
        let some = services(&[(true, true), (false, true), (false, false)]);
        let none = services(&[]);
        for (to, answered_by, stale, stale_without_endpoints) in [
            ("10.96.0.10:53", "10.244.0.1:5353", false, true),
            ("10.96.0.10:53", "10.244.0.2:5353", false, true),
            ("10.96.0.10:53", "10.244.0.3:5353", true, true),
            ("10.96.0.10:53", "10.244.0.4:5353", true, true),
            ("10.96.0.10:53", "10.244.0.1:53", true, true),
            // From before there were rules.
            ("10.96.0.10:53", "10.96.0.10:53", true, true),
            ("192.0.2.1:53", "10.244.0.4:5353", true, true),
            ("203.0.113.1:53", "10.244.0.1:5353", false, true),
            ("172.16.0.1:30053", "10.244.0.4:5353", true, true),
            ("172.16.0.1:30053", "10.244.0.1:5353", false, true),
            // Not to the Service.
            ("10.96.0.10:54", "10.96.0.10:54", false, false),
            ("10.96.0.11:53", "10.96.0.11:53", false, false),
        ] {
            let flow = flow(to, answered_by);
            assert_eq!(some.is_stale(&flow), stale, "{to} {answered_by}");
            assert_eq!(
                none.is_stale(&flow),
                stale_without_endpoints,
                "{to} {answered_by}"
            );
        }
    }

    #[test]
    fn tcp_that_was_not_translated_is_none_of_ours() {
        let service = Service {
            cluster_ips: vec!["10.96.0.10".parse().unwrap()],
            ports: vec![ServicePort {
                name: "".into(),
                protocol: Protocol::Tcp,
                port: 80,
                node_port: Some(22),
            }],
            ..Service::default()
        };
        let mut services = TrackedServices::new(Protocol::Tcp);
        services.add(&service, [].iter(), Family::V4);
        for (to, translated, stale) in [
            ("10.96.0.10:80", true, true),
            ("10.96.0.10:80", false, false),
            ("192.0.2.1:22", false, false),
            ("192.0.2.1:22", true, true),
        ] {
            let flow = Flow {
                status: Status(if translated { 1 << 5 } else { 0 }),
                ..flow(to, "10.244.0.4:80")
            };
            assert_eq!(services.is_stale(&flow), stale, "{to} {translated}");
        }
    }
}
