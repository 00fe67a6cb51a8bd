//! The objects of a cluster of so many Services with so many endpoints each.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    str::FromStr,
};

use anyhow::{Context, Error, Result};
use serde_json::{Value, json};

/// Endpoints of one EndpointSlice at the most, as the controller has it.
const SLICE: u32 = 100;
/// Services that a real pod answers for, spread over all of them.
const PROBES: u32 = 20;
/// The port of every Service.
pub const PORT: u16 = 80;
/// The port of every endpoint.
pub const TARGET: u16 = 8080;
/// The namespace of every Service.
pub const NAMESPACE: &str = "bench";

/// How many Services with how many endpoints each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Services.
    pub services: u32,
    /// Endpoints of each.
    pub endpoints: u32,
}

// === impl Size ===

impl Size {
    /// The Services that a real pod answers for; the last one is the last by name.
    pub fn probes(self) -> Vec<u32> {
        let count = PROBES.min(self.services);
        (1..=count)
            .map(|number| self.services * number / count - 1)
            .collect()
    }

    /// The last Service by name.
    pub fn last(self) -> u32 {
        self.services - 1
    }
}

impl FromStr for Size {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (services, endpoints) = text.split_once('x').context("no size such as 10000x10")?;
        let size = Self {
            services: services.parse()?,
            endpoints: endpoints.parse()?,
        };
        anyhow::ensure!(
            (1..=60_000).contains(&size.services) && (1..=1000).contains(&size.endpoints),
            "1 to 60000 Services with 1 to 1000 endpoints"
        );
        Ok(size)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {}", self.services, self.endpoints)
    }
}

/// The node that the proxy is for.
pub fn node(name: &str, address: IpAddr) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]},
    })
}

/// The address of a Service.
pub fn cluster_ip(number: u32) -> IpAddr {
    let [_, _, high, low] = (256 + number).to_be_bytes();
    Ipv4Addr::new(10, 96, high, low).into()
}

/// A Service.
pub fn service(number: u32) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name(number), "namespace": NAMESPACE},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": cluster_ip(number),
            "clusterIPs": [cluster_ip(number)],
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster",
            "sessionAffinity": "None",
            "selector": {"app": name(number)},
            "ports": [{"name": "http", "port": PORT, "targetPort": TARGET, "protocol": "TCP"}],
        },
    })
}

/// The slices of a Service that nobody asks for: endpoints that are nowhere. Another `round` is another first
/// endpoint.
pub fn slices(number: u32, endpoints: u32, round: u32) -> Vec<Value> {
    let address = |index: u32| {
        let host = match index {
            0 => (number * endpoints + round * 7) % (1 << 20) + (1 << 22),
            index => number * endpoints + index,
        };
        let [_, high, middle, low] = (host % (1 << 23)).to_be_bytes();
        Ipv4Addr::new(10, 128 | high, middle, low).into()
    };
    (0..endpoints)
        .step_by(SLICE as usize)
        .map(|first| {
            let indexes = first..endpoints.min(first + SLICE);
            slice(number, first / SLICE, indexes.map(address).collect())
        })
        .collect()
}

/// A slice of a Service with endpoints.
pub fn slice(number: u32, part: u32, addresses: Vec<IpAddr>) -> Value {
    let endpoints: Vec<_> = addresses
        .iter()
        .map(|address| {
            json!({
                "addresses": [address],
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "nodeName": "elsewhere",
                "zone": "a",
                "targetRef": {"kind": "Pod", "namespace": NAMESPACE, "name": format!("pod-{address}")},
            })
        })
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": slice_name(number, part),
            "namespace": NAMESPACE,
            "labels": {
                "kubernetes.io/service-name": name(number),
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            },
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": TARGET, "protocol": "TCP"}],
        "endpoints": endpoints,
    })
}

/// The names of a Service's slices.
pub fn slice_names(number: u32, endpoints: u32) -> impl Iterator<Item = String> {
    (0..endpoints.div_ceil(SLICE)).map(move |part| slice_name(number, part))
}

/// The name of a Service.
pub fn name(number: u32) -> String {
    format!("s{number:05}")
}

fn slice_name(number: u32, part: u32) -> String {
    format!("{}-{part}", name(number))
}
