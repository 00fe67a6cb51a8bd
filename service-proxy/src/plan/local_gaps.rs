//! Service ports whose traffic policy asks for endpoints on this node, where there are some elsewhere only
//! (`sync_proxy_rules_no_local_endpoints_total`; service-proxy 1.5).

use std::collections::BTreeMap;

use kernel::Family;

use crate::model::{EndpointSlice, Here, ObjectName, Service, TrafficPolicy, candidates, choose};

/// How many Service ports lack endpoints on the node in one family, by the policy that asks for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gaps {
    /// By `internalTrafficPolicy`.
    pub internal: usize,
    /// By `externalTrafficPolicy`.
    pub external: usize,
}

/// The gaps of all Services.
#[derive(Debug, Default)]
pub struct LocalGaps {
    /// Of Services that have some: hardly any has.
    by_service: BTreeMap<ObjectName, [Gaps; 2]>,
}

// === impl Gaps ===

impl Gaps {
    /// Those of a Service in a family, as seen from a node.
    pub fn of<'a>(
        service: &Service,
        slices: impl Iterator<Item = &'a EndpointSlice> + Clone,
        family: Family,
        node: &str,
    ) -> Self {
        let local = [service.internal, service.external].map(|it| it == TrafficPolicy::Local);
        let mut gaps = Self::default();
        if local == [false, false] || service.cluster_ip(family).is_none() {
            return gaps;
        }
        let here = Here {
            node,
            zone: None,
            addresses: &[],
        };
        let slices = slices.filter(|slice| slice.family == family);
        let outside = !service.external_ips.is_empty() || !service.load_balancer_ips.is_empty();
        for port in &service.ports {
            let listed = candidates(port, slices.clone());
            let choice = choose(&listed, here);
            if choice.is_empty() || !choice.local.is_empty() {
                continue;
            }
            gaps.internal += usize::from(local[0]);
            gaps.external += usize::from(local[1] && (outside || port.node_port.is_some()));
        }
        gaps
    }
}

// === impl LocalGaps ===

impl LocalGaps {
    /// Takes in those of a Service, in the order of [`Family::ALL`].
    pub fn set(&mut self, service: &ObjectName, gaps: [Gaps; 2]) {
        if gaps == [Gaps::default(); 2] {
            self.by_service.remove(service);
        } else {
            self.by_service.insert(service.clone(), gaps);
        }
    }

    /// Those of all Services, in the order of [`Family::ALL`].
    pub fn total(&self) -> [Gaps; 2] {
        let mut total = [Gaps::default(); 2];
        for gaps in self.by_service.values() {
            for (sum, of_family) in total.iter_mut().zip(gaps) {
                sum.internal += of_family.internal;
                sum.external += of_family.external;
            }
        }
        total
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::model::{Endpoint, Protocol, ServicePort, SlicePort};

    fn slice(nodes: &[&str]) -> EndpointSlice {
        let endpoint = |(number, node): (usize, &&str)| Endpoint {
            address: format!("10.0.0.{number}").parse().unwrap(),
            ready: true,
            serving: true,
            terminating: false,
            node: Some((*node).into()),
            hints: None,
        };
        EndpointSlice {
            triggered: None,
            name: ObjectName::new("shop", "web-1"),
            service: ObjectName::new("shop", "web"),
            family: Family::V4,
            ports: vec![SlicePort {
                name: "http".into(),
                protocol: Protocol::Tcp,
                port: 8080,
            }],
            endpoints: nodes.iter().enumerate().map(endpoint).collect(),
        }
    }

    #[test]
    fn only_what_is_asked_for_here_and_is_elsewhere() {
        use TrafficPolicy::{Cluster, Local};
        for (internal, external, node_port, nodes, expected) in [
            (Local, Local, Some(30080), &["n2"][..], (1, 1)),
            (Local, Local, None, &["n2"], (1, 0)),
            (Cluster, Local, Some(30080), &["n2"], (0, 1)),
            (Cluster, Cluster, Some(30080), &["n2"], (0, 0)),
            (Local, Local, Some(30080), &["n1", "n2"], (0, 0)),
            (Local, Local, Some(30080), &[], (0, 0)),
        ] {
            let service = Service {
                cluster_ips: vec!["10.96.0.1".parse().unwrap()],
                ports: vec![ServicePort {
                    name: "http".into(),
                    protocol: Protocol::Tcp,
                    port: 80,
                    node_port,
                }],
                internal,
                external,
                ..Service::default()
            };
            let slice = slice(nodes);
            let of = |family| Gaps::of(&service, [&slice].into_iter(), family, "n1");
            let found = of(Family::V4);
            assert_eq!((found.internal, found.external), expected, "{nodes:?}");
            assert_eq!(of(Family::V6), Gaps::default());
        }
    }

    #[test]
    fn the_sum_follows_each_service() {
        let mut gaps = LocalGaps::default();
        let one = Gaps {
            internal: 1,
            external: 2,
        };
        let [a, b] = ["a", "b"].map(|name| ObjectName::new("shop", name));
        gaps.set(&a, [one, Gaps::default()]);
        gaps.set(&b, [one, one]);
        let two = Gaps {
            internal: 2,
            external: 4,
        };
        assert_eq!(gaps.total(), [two, one]);
        gaps.set(&b, [Gaps::default(); 2]);
        assert_eq!(gaps.total(), [one, Gaps::default()]);
    }
}
