//! Which endpoints take connections (`CategorizeEndpoints` of kube-proxy; service-proxy 1.2).

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::IpAddr,
};

use super::{Endpoint, EndpointSlice, ServicePort};

/// An endpoint of one Service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// The endpoint.
    pub endpoint: &'a Endpoint,
    /// The port number that it listens on.
    pub port: u16,
}

// === impl Candidate ===

impl Candidate<'_> {
    fn socket(&self) -> (IpAddr, u16) {
        (self.endpoint.address, self.port)
    }

    /// Address and port as text, the order in which kube-proxy writes endpoints (F5).
    fn text(&self) -> String {
        format!("{}:{}", self.endpoint.address, self.port)
    }

    /// Where one address and port is listed twice, as while an endpoint moves from slice to slice, the
    /// listing in which it is more alive counts (F5).
    fn liveliness(&self) -> (bool, bool, bool) {
        (
            self.endpoint.ready,
            self.endpoint.serving,
            !self.endpoint.terminating,
        )
    }
}

/// Everything that slices of a Service list for one of its ports: by name and protocol, each address and
/// port once, in kube-proxy's order.
pub fn candidates<'a>(
    port: &ServicePort,
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
) -> Vec<Candidate<'a>> {
    let mut by_socket: BTreeMap<_, Candidate<'a>> = BTreeMap::new();
    for candidate in slices.into_iter().flat_map(|slice| listed(port, slice)) {
        match by_socket.entry(candidate.socket()) {
            Entry::Vacant(vacant) => {
                vacant.insert(candidate);
            }
            Entry::Occupied(mut known) => {
                if candidate.liveliness() > known.get().liveliness() {
                    known.insert(candidate);
                }
            }
        }
    }
    let mut candidates: Vec<_> = by_socket.into_values().collect();
    candidates.sort_by_cached_key(Candidate::text);
    candidates
}

/// The endpoints that connections from anywhere in the cluster are spread over: those that are ready, or
/// while none is, those that still answer on their way out (KEP-1669).
pub fn cluster_endpoints<'a>(candidates: &[Candidate<'a>]) -> Vec<Candidate<'a>> {
    let chosen = |wanted: fn(&Endpoint) -> bool| -> Vec<_> {
        candidates
            .iter()
            .copied()
            .filter(|candidate| wanted(candidate.endpoint))
            .collect()
    };
    let ready = chosen(|endpoint| endpoint.ready);
    if ready.is_empty() {
        chosen(|endpoint| endpoint.serving && endpoint.terminating)
    } else {
        ready
    }
}

/// What one slice lists for a Service port.
fn listed<'a>(port: &ServicePort, slice: &'a EndpointSlice) -> impl Iterator<Item = Candidate<'a>> {
    slice
        .ports
        .iter()
        .filter(|listed| listed.name == port.name && listed.protocol == port.protocol)
        .flat_map(|listed| {
            slice.endpoints.iter().map(|endpoint| Candidate {
                endpoint,
                port: listed.port,
            })
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use kernel::Family;

    use super::*;
    use crate::model::{ObjectName, Protocol, SlicePort};

    /// `r` ready, `s` serving, `t` terminating.
    fn endpoint(address: &str, conditions: &str) -> Endpoint {
        Endpoint {
            address: address.parse().unwrap(),
            ready: conditions.contains('r'),
            serving: conditions.contains('s'),
            terminating: conditions.contains('t'),
            node: None,
        }
    }

    fn slice(port: (&str, Protocol, u16), endpoints: &[(&str, &str)]) -> EndpointSlice {
        EndpointSlice {
            name: ObjectName::new("default", "web-1"),
            service: ObjectName::new("default", "web"),
            family: Family::V4,
            ports: vec![SlicePort {
                name: port.0.into(),
                protocol: port.1,
                port: port.2,
            }],
            endpoints: endpoints
                .iter()
                .map(|(address, conditions)| endpoint(address, conditions))
                .collect(),
        }
    }

    fn http() -> ServicePort {
        ServicePort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 80,
        }
    }

    fn texts(candidates: &[Candidate<'_>]) -> Vec<String> {
        candidates.iter().map(Candidate::text).collect()
    }

    #[test]
    fn lists_by_port_name_and_protocol_with_a_target_port_per_slice() {
        let slices = [
            slice(
                ("http", Protocol::Tcp, 8080),
                &[("10.0.0.2", "rs"), ("10.0.0.10", "rs")],
            ),
            slice(("http", Protocol::Tcp, 9090), &[("10.0.0.3", "rs")]),
            slice(("http", Protocol::Udp, 1), &[("10.0.0.4", "rs")]),
            slice(("https", Protocol::Tcp, 2), &[("10.0.0.5", "rs")]),
        ];
        assert_eq!(
            texts(&candidates(&http(), &slices)),
            ["10.0.0.10:8080", "10.0.0.2:8080", "10.0.0.3:9090"]
        );
    }

    #[test]
    fn the_more_alive_of_two_listings_counts() {
        for (first, second) in [("rs", "st"), ("st", ""), ("st", "t"), ("s", "st")] {
            for [a, b] in [[first, second], [second, first]] {
                let slices = [a, b].map(|conditions| {
                    slice(("http", Protocol::Tcp, 80), &[("10.0.0.2", conditions)])
                });
                let found = candidates(&http(), &slices);
                assert_eq!(found.len(), 1);
                assert_eq!(
                    found[0].endpoint,
                    &endpoint("10.0.0.2", first),
                    "{a:?} {b:?}"
                );
            }
        }
    }

    #[test]
    fn ready_endpoints_else_those_that_still_serve() {
        for (conditions, chosen) in [
            (&[][..], &[][..]),
            (&["rs", "rs"], &[0, 1]),
            (&["rs", "st", "s", "t", ""], &[0]),
            (&["s", "st", "t", "st", ""], &[1, 3]),
            (&["s", "t", ""], &[]),
            // publishNotReadyAddresses: the endpoint controller says ready of a terminating endpoint (F8).
            (&["rst", "st"], &[0]),
        ] {
            let listed: Vec<(String, &str)> = conditions
                .iter()
                .enumerate()
                .map(|(index, conditions)| (format!("10.0.0.{index}"), *conditions))
                .collect();
            let listed: Vec<_> = listed
                .iter()
                .map(|(address, c)| (address.as_str(), *c))
                .collect();
            let slices = [slice(("http", Protocol::Tcp, 80), &listed)];
            let expected: Vec<_> = chosen
                .iter()
                .map(|index| format!("10.0.0.{index}:80"))
                .collect();
            let found = cluster_endpoints(&candidates(&http(), &slices));
            assert_eq!(texts(&found), expected, "{conditions:?}");
        }
    }
}
