//! Which endpoints take connections (`CategorizeEndpoints` of kube-proxy; service-proxy 1.2).

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::IpAddr,
};

use super::{Endpoint, EndpointSlice, Hints, ServicePort};

/// An endpoint of one Service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// The endpoint.
    pub endpoint: &'a Endpoint,
    /// The port number that it listens on.
    pub port: u16,
}

/// Where endpoints are seen from.
#[derive(Clone, Copy, Debug)]
pub struct Here<'a> {
    /// The name of the node.
    pub node: &'a str,
    /// Its zone, if it has one.
    pub zone: Option<&'a str>,
    /// Its addresses.
    pub addresses: &'a [IpAddr],
}

/// The endpoints of a Service port that take connections, by traffic policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice<'a> {
    /// Those that connections from anywhere are spread over.
    pub cluster: Vec<Candidate<'a>>,
    /// Those on this node, whatever the hints.
    pub local: Vec<Candidate<'a>>,
}

// === impl Here ===

impl Here<'_> {
    fn has(self, endpoint: &Endpoint) -> bool {
        endpoint.node.as_deref() == Some(self.node)
    }
}

// === impl Choice ===

impl Choice<'_> {
    /// Whether there is an endpoint anywhere.
    pub fn is_empty(&self) -> bool {
        self.cluster.is_empty() && self.local.is_empty()
    }
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

/// Chooses among all that is listed for a Service port, as seen from a node.
pub fn choose<'a>(candidates: &[Candidate<'a>], here: Here<'_>) -> Choice<'a> {
    let local = chosen(candidates, |endpoint| here.has(endpoint));
    let ready: Vec<_> = ready(candidates);
    let cluster = if ready.is_empty() {
        chosen(candidates, |_| true)
    } else {
        near(ready, here)
    };
    Choice { cluster, local }
}

/// Of endpoints those that are ready, or while none is, those that still answer on their way out (KEP-1669).
fn chosen<'a>(
    candidates: &[Candidate<'a>],
    wanted: impl Fn(&Endpoint) -> bool,
) -> Vec<Candidate<'a>> {
    let wanted: Vec<_> = candidates
        .iter()
        .copied()
        .filter(|candidate| wanted(candidate.endpoint))
        .collect();
    let ready = ready(&wanted);
    if ready.is_empty() {
        let leaving = |candidate: &Candidate<'_>| {
            candidate.endpoint.serving && candidate.endpoint.terminating
        };
        wanted.into_iter().filter(leaving).collect()
    } else {
        ready
    }
}

fn ready<'a>(candidates: &[Candidate<'a>]) -> Vec<Candidate<'a>> {
    let ready = candidates
        .iter()
        .filter(|candidate| candidate.endpoint.ready);
    ready.copied().collect()
}

/// Of ready endpoints those that have a hint for this node; or else for its zone; or else all. Hints count
/// only where every endpoint has some and one of them is for here (F13).
fn near<'a>(ready: Vec<Candidate<'a>>, here: Here<'_>) -> Vec<Candidate<'a>> {
    let by = |names: fn(&Hints) -> &[String], own: &str| {
        let hints =
            |candidate: &Candidate<'a>| candidate.endpoint.hints.as_deref().map_or(&[][..], names);
        let all = ready.iter().all(|candidate| !hints(candidate).is_empty());
        let ours = ready
            .iter()
            .copied()
            .filter(|candidate| hints(candidate).iter().any(|name| name == own));
        Some(ours.collect::<Vec<_>>()).filter(|ours| all && !ours.is_empty())
    };
    by(|hints| &hints.nodes, here.node)
        .or_else(|| by(|hints| &hints.zones, here.zone?))
        .unwrap_or(ready)
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

    /// `r` ready, `s` serving, `t` terminating, `h` here; hints: `N` this node, `n` another, `Z` this zone,
    /// `z` another.
    fn endpoint(address: &str, conditions: &str) -> Endpoint {
        Endpoint {
            address: address.parse().unwrap(),
            ready: conditions.contains('r'),
            serving: conditions.contains('s'),
            terminating: conditions.contains('t'),
            node: conditions.contains('h').then(|| "here".into()),
            hints: conditions.contains(['N', 'n', 'Z', 'z']).then(|| {
                let names = |all: &[(char, &str)]| -> Vec<String> {
                    let named = all
                        .iter()
                        .filter(|(letter, _)| conditions.contains(*letter));
                    named.map(|(_, name)| (*name).to_owned()).collect()
                };
                Box::new(Hints {
                    nodes: names(&[('N', "here"), ('n', "there")]),
                    zones: names(&[('Z', "near"), ('z', "far")]),
                })
            }),
        }
    }

    fn slice(port: (&str, Protocol, u16), endpoints: &[(&str, &str)]) -> EndpointSlice {
        EndpointSlice {
            triggered: None,
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
            node_port: None,
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

    fn indices(found: &[Candidate<'_>]) -> Vec<u8> {
        let last = |found: &Candidate<'_>| match found.endpoint.address {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(_) => panic!("{found:?}"),
        };
        found.iter().map(last).collect()
    }

    /// Every row: what is listed; what is chosen in the cluster; what on the node.
    #[test]
    fn the_table_of_choices() {
        for (conditions, cluster, local) in [
            (&[][..], &[][..], &[][..]),
            (&["rs", "rs"], &[0, 1], &[]),
            (&["rs", "st", "s", "t", ""], &[0], &[]),
            (&["s", "st", "t", "st", ""], &[1, 3], &[]),
            (&["s", "t", ""], &[], &[]),
            (&["rs", "rsh"], &[0, 1], &[1]),
            // On the node, those on their way out serve while those elsewhere are ready.
            (&["rs", "sth", "th", "sh", "h"], &[0], &[1]),
            (&["st", "sth"], &[0, 1], &[1]),
            (&["rsh", "sth"], &[0], &[0]),
            // publishNotReadyAddresses: the endpoint controller says ready of a terminating endpoint (F8).
            (&["rst", "st"], &[0], &[]),
            // Hints for the node come before those for the zone, and count if all that are ready have some.
            (&["rsN", "rsn"], &[0], &[]),
            (&["rsNz", "rsnZ"], &[0], &[]),
            (&["rsn", "rsn"], &[0, 1], &[]),
            (&["rsN", "rs"], &[0, 1], &[]),
            (&["rsN", "s"], &[0], &[]),
            (&["rsnZ", "rsnz"], &[0], &[]),
            (&["rsZ", "rsz", "rsZz"], &[0, 2], &[]),
            (&["rsz", "rsz"], &[0, 1], &[]),
            (&["rsZ", "rs"], &[0, 1], &[]),
            (&["rsNZ", "rsZ"], &[0, 1], &[]),
            // Neither local endpoints nor those on their way out are chosen by hints.
            (&["rsZ", "rszh"], &[0], &[1]),
            (&["stZ", "stz"], &[0, 1], &[]),
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
            let here = Here {
                node: "here",
                zone: Some("near"),
                addresses: &[],
            };
            let candidates = candidates(&http(), &slices);
            let found = choose(&candidates, here);
            assert_eq!(indices(&found.cluster), cluster, "{conditions:?}");
            assert_eq!(indices(&found.local), local, "{conditions:?}");
            assert_eq!(found.is_empty(), cluster.is_empty(), "{conditions:?}");
        }
    }

    #[test]
    fn a_node_without_zone_takes_no_hints_for_zones() {
        let slices = [slice(
            ("http", Protocol::Tcp, 80),
            &[("10.0.0.0", "rsZ"), ("10.0.0.1", "rsz")],
        )];
        let candidates = candidates(&http(), &slices);
        let here = Here {
            node: "here",
            zone: None,
            addresses: &[],
        };
        assert_eq!(indices(&choose(&candidates, here).cluster), [0, 1]);
    }
}
