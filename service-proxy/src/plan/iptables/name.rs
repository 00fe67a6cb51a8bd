//! Names of chains, equal to kube-proxy's: other programs and people know them (service-proxy 2.1).

use std::net::SocketAddr;

use data_encoding::BASE32;
use sha2::{Digest as _, Sha256};

use crate::{model::ServicePortName, plan::Backend};

/// Entry of connections to addresses of Services.
pub const SERVICES: &str = "KUBE-SERVICES";
/// Entry of connections to addresses from outside, of those that lack endpoints.
pub const EXTERNAL_SERVICES: &str = "KUBE-EXTERNAL-SERVICES";
/// Entry of connections to NodePorts, and of those to health check ports.
pub const NODE_PORTS: &str = "KUBE-NODEPORTS";
/// NodePorts that lack endpoints.
pub const EXTERNAL_NODE_PORTS: &str = "KUBE-EXTERNAL-NODEPORTS";
/// Load balancers' addresses that not everybody may connect to.
pub const PROXY_FIREWALL: &str = "KUBE-PROXY-FIREWALL";
/// Beside IPVS, entry of pods and the node itself to addresses whose virtual servers have only the endpoints on
/// this node; of ours alone.
pub const LOCAL_SERVICES: &str = "KUBE-LOCAL-SERVICES";
/// The same to NodePorts.
pub const LOCAL_NODE_PORTS: &str = "KUBE-LOCAL-NODE-PORT";
/// Of IPVS mode: NodePorts, and in the table `filter` ports where load balancers ask.
pub const NODE_PORT: &str = "KUBE-NODE-PORT";
/// Of IPVS mode: load balancers' addresses.
pub const LOAD_BALANCER: &str = "KUBE-LOAD-BALANCER";
/// Of IPVS mode: who may connect to load balancers' addresses.
pub const SOURCE_RANGES_FIREWALL: &str = "KUBE-SOURCE-RANGES-FIREWALL";
/// Of IPVS mode: what comes to addresses of Services.
pub const IPVS_FILTER: &str = "KUBE-IPVS-FILTER";
/// Of IPVS mode: what the node itself sends there.
pub const IPVS_OUT_FILTER: &str = "KUBE-IPVS-OUT-FILTER";
/// Kubelet's and ours: packets to loopback addresses from elsewhere.
pub const FIREWALL: &str = "KUBE-FIREWALL";
/// What may be forwarded.
pub const FORWARD: &str = "KUBE-FORWARD";
/// Marks connections that are to be masqueraded.
pub const MARK_MASQ: &str = "KUBE-MARK-MASQ";
/// Masquerades what is marked.
pub const POSTROUTING: &str = "KUBE-POSTROUTING";
/// An empty chain of every table: when it has gone, so has everything.
pub const CANARY: &str = "KUBE-PROXY-CANARY";

/// The accounting object of packets that belong to no connection and are not forwarded.
pub const INVALID_DROPPED: &str = "ct_state_invalid_dropped_pkts";
/// That of connections to NodePorts on loopback addresses.
pub const LOCALHOST_ACCEPTED: &str = "localhost_nps_accepted_pkts";
/// How a rule says that it counts in such an object; the name follows.
pub const ACCOUNTED: &str = "-m nfacct --nfacct-name";

/// How the names of chains begin that come and go with Services.
pub const OF_SERVICES: [&str; 5] = [
    "KUBE-SVC-",
    "KUBE-SVL-",
    "KUBE-EXT-",
    "KUBE-FW-",
    "KUBE-SEP-",
];

/// Chains of kube-proxy's IPVS mode.
pub const OF_IPVS: [&str; 6] = [
    NODE_PORT,
    LOAD_BALANCER,
    SOURCE_RANGES_FIREWALL,
    IPVS_FILTER,
    IPVS_OUT_FILTER,
    "KUBE-IPVS-INGRESS",
];

/// The chains of one Service port, but for those of its endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    hash: String,
}

// === impl Names ===

impl Names {
    /// The names for a Service port.
    pub fn of(port: &ServicePortName) -> Self {
        Self {
            hash: hash(&identity(port)),
        }
    }

    /// All endpoints.
    pub fn cluster(&self) -> String {
        format!("KUBE-SVC-{}", self.hash)
    }

    /// Those on this node.
    pub fn local(&self) -> String {
        format!("KUBE-SVL-{}", self.hash)
    }

    /// What comes from outside.
    pub fn external(&self) -> String {
        format!("KUBE-EXT-{}", self.hash)
    }

    /// Who may connect to the load balancer's addresses.
    pub fn firewall(&self) -> String {
        format!("KUBE-FW-{}", self.hash)
    }
}

/// The chain of an endpoint of a Service port.
pub fn endpoint(port: &ServicePortName, backend: &Backend) -> String {
    format!(
        "KUBE-SEP-{}",
        hash(&format!("{}{}", identity(port), socket(backend)))
    )
}

/// An endpoint's address and port: `10.0.0.1:80`, `[fd00::1]:80`.
pub fn socket(backend: &Backend) -> SocketAddr {
    SocketAddr::new(backend.address, backend.port)
}

fn identity(port: &ServicePortName) -> String {
    format!("{port}{}", port.protocol.to_string().to_lowercase())
}

/// The first 16 characters of the SHA-256 in base 32 (10 bytes make just 16 characters).
pub fn hash(text: &str) -> String {
    BASE32.encode(&Sha256::digest(text.as_bytes())[..10])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::model::{ObjectName, Protocol};

    fn port(namespace: &str, name: &str, port: &str, protocol: Protocol) -> ServicePortName {
        ServicePortName {
            service: ObjectName::new(namespace, name),
            port: port.into(),
            protocol,
        }
    }

    #[test]
    fn hashes_are_kube_proxys() {
        use Protocol::{Tcp, Udp};
        for (name, expected) in [
            (port("ns1", "svc1", "p80", Tcp), "XPGD46QRK7WJZT7O"),
            (port("ns2", "svc2", "p80", Tcp), "GNZBNJ2PO5MGZ6GT"),
            (
                port("default", "kubernetes", "https", Tcp),
                "NPX46M4PTMTKRN6Y",
            ),
            (
                port("kube-system", "kube-dns", "dns", Udp),
                "TCOU7JCQXEZGVUNU",
            ),
        ] {
            assert_eq!(Names::of(&name).cluster(), format!("KUBE-SVC-{expected}"));
        }
        for (name, address, expected) in [
            ("1", "10.180.0.1", "KUBE-SEP-SXIVWICOYRO3J4NJ"),
            ("5", "10.180.0.3", "KUBE-SEP-I77PXRDZVX7PMWMN"),
        ] {
            let name = port(&format!("ns{name}"), &format!("svc{name}"), "p80", Tcp);
            let backend = Backend {
                address: address.parse().unwrap(),
                port: 80,
                here: false,
            };
            assert_eq!(endpoint(&name, &backend), expected);
        }
    }
}
