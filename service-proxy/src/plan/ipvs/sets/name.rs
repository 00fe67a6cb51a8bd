//! Names of sets, equal to kube-proxy's: other programs and people know them (service-proxy 2.6).

use kernel::{
    Family,
    ipset::{Kind, NAME_MAX},
};

use crate::model::Protocol;

/// A set of IPVS mode, of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SetName {
    /// What follows the prefix.
    suffix: &'static str,
    /// What is in it, as the rules that look it up say.
    pub comment: &'static str,
    /// What its members are made of.
    pub kind: Kind,
}

// === impl SetName ===

impl SetName {
    /// Endpoints on this node, each with itself.
    pub const LOOP_BACK: Self = Self::new(
        "LOOP-BACK",
        Kind::IpPortIp,
        "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose",
    );
    /// Cluster IPs.
    pub const CLUSTER_IP: Self = Self::new(
        "CLUSTER-IP",
        Kind::IpPort,
        "Kubernetes service cluster ip + port for masquerade purpose",
    );
    /// External addresses that lead to all endpoints.
    pub const EXTERNAL_IP: Self = Self::new(
        "EXTERNAL-IP",
        Kind::IpPort,
        "Kubernetes service external ip + port for masquerade and filter purpose",
    );
    /// Those that lead to endpoints on this node.
    pub const EXTERNAL_IP_LOCAL: Self = Self::new(
        "EXTERNAL-IP-LOCAL",
        Kind::IpPort,
        "Kubernetes service external ip + port with externalTrafficPolicy=local",
    );
    /// Addresses of load balancers.
    pub const LOAD_BALANCER: Self = Self::new(
        "LOAD-BALANCER",
        Kind::IpPort,
        "Kubernetes service lb portal",
    );
    /// Those that not everybody may connect to.
    pub const LOAD_BALANCER_FW: Self = Self::new(
        "LOAD-BALANCER-FW",
        Kind::IpPort,
        "Kubernetes service load balancer ip + port for load balancer with sourceRange",
    );
    /// Those that lead to endpoints on this node.
    pub const LOAD_BALANCER_LOCAL: Self = Self::new(
        "LOAD-BALANCER-LOCAL",
        Kind::IpPort,
        "Kubernetes service load balancer ip + port with externalTrafficPolicy=local",
    );
    /// Addresses that may connect.
    pub const LOAD_BALANCER_SOURCE_IP: Self = Self::new(
        "LOAD-BALANCER-SOURCE-IP",
        Kind::IpPortIp,
        "Kubernetes service load balancer ip + port + source IP for packet filter purpose",
    );
    /// Networks that may connect.
    pub const LOAD_BALANCER_SOURCE_CIDR: Self = Self::new(
        "LOAD-BALANCER-SOURCE-CIDR",
        Kind::IpPortNet,
        "Kubernetes service load balancer ip + port + source cidr for packet filter purpose",
    );
    /// NodePorts of TCP.
    pub const NODE_PORT_TCP: Self = Self::new(
        "NODE-PORT-TCP",
        Kind::Port,
        "Kubernetes nodeport TCP port for masquerade purpose",
    );
    /// Those that lead to endpoints on this node.
    pub const NODE_PORT_LOCAL_TCP: Self = Self::new(
        "NODE-PORT-LOCAL-TCP",
        Kind::Port,
        "Kubernetes nodeport TCP port with externalTrafficPolicy=local",
    );
    /// NodePorts of UDP.
    pub const NODE_PORT_UDP: Self = Self::new(
        "NODE-PORT-UDP",
        Kind::Port,
        "Kubernetes nodeport UDP port for masquerade purpose",
    );
    /// Those that lead to endpoints on this node.
    pub const NODE_PORT_LOCAL_UDP: Self = Self::new(
        "NODE-PORT-LOCAL-UDP",
        Kind::Port,
        "Kubernetes nodeport UDP port with externalTrafficPolicy=local",
    );
    /// NodePorts of SCTP, with the addresses of the node.
    pub const NODE_PORT_SCTP: Self = Self::new(
        "NODE-PORT-SCTP-HASH",
        Kind::IpPort,
        "Kubernetes nodeport SCTP port for masquerade purpose with type 'hash ip:port'",
    );
    /// Those that lead to endpoints on this node.
    pub const NODE_PORT_LOCAL_SCTP: Self = Self::new(
        "NODE-PORT-LOCAL-SCTP-HASH",
        Kind::IpPort,
        "Kubernetes nodeport SCTP port with externalTrafficPolicy=local with type 'hash ip:port'",
    );
    /// Ports where load balancers ask.
    pub const HEALTH_CHECK_NODE_PORT: Self = Self::new(
        "HEALTH-CHECK-NODE-PORT",
        Kind::Port,
        "Kubernetes health check node port",
    );
    /// The addresses that the node has for nothing but Services.
    pub const IPVS_IPS: Self = Self::new("IPVS-IPS", Kind::Ip, "Addresses on the ipvs interface");
    /// Of ours alone: each virtual server that this program has made.
    pub const IPVS_SERVERS: Self = Self::new(
        "IPVS-SERVERS",
        Kind::IpPort,
        "virtual servers of this program",
    );
    /// Of ours alone: what is refused, as there is no endpoint.
    pub const NO_ENDPOINTS: Self = Self::new("NO-ENDPOINTS", Kind::IpPort, "no endpoints");
    /// Of ours alone: what is dropped, as no endpoint is here.
    pub const NO_LOCAL_ENDPOINTS: Self =
        Self::new("NO-LOCAL-ENDPOINTS", Kind::IpPort, "no local endpoints");

    /// All of them: kube-proxy's, then ours.
    pub const ALL: [Self; 20] = [
        Self::LOOP_BACK,
        Self::CLUSTER_IP,
        Self::EXTERNAL_IP,
        Self::EXTERNAL_IP_LOCAL,
        Self::LOAD_BALANCER,
        Self::LOAD_BALANCER_FW,
        Self::LOAD_BALANCER_LOCAL,
        Self::LOAD_BALANCER_SOURCE_IP,
        Self::LOAD_BALANCER_SOURCE_CIDR,
        Self::NODE_PORT_TCP,
        Self::NODE_PORT_LOCAL_TCP,
        Self::NODE_PORT_UDP,
        Self::NODE_PORT_LOCAL_UDP,
        Self::NODE_PORT_SCTP,
        Self::NODE_PORT_LOCAL_SCTP,
        Self::HEALTH_CHECK_NODE_PORT,
        Self::IPVS_IPS,
        Self::IPVS_SERVERS,
        Self::NO_ENDPOINTS,
        Self::NO_LOCAL_ENDPOINTS,
    ];

    const fn new(suffix: &'static str, kind: Kind, comment: &'static str) -> Self {
        Self {
            suffix,
            kind,
            comment,
        }
    }

    /// Those of NodePorts of a protocol: all, and those that lead to endpoints on this node.
    pub const fn node_ports(protocol: Protocol) -> [Self; 2] {
        match protocol {
            Protocol::Tcp => [Self::NODE_PORT_TCP, Self::NODE_PORT_LOCAL_TCP],
            Protocol::Udp => [Self::NODE_PORT_UDP, Self::NODE_PORT_LOCAL_UDP],
            Protocol::Sctp => [Self::NODE_PORT_SCTP, Self::NODE_PORT_LOCAL_SCTP],
        }
    }

    /// Its name in a family; what is longer than the kernel takes is cut off.
    pub fn of(self, family: Family) -> String {
        let prefix = match family {
            Family::V4 => "KUBE-",
            Family::V6 => "KUBE-6-",
        };
        let mut name = format!("{prefix}{}", self.suffix);
        name.truncate(NAME_MAX);
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kube_proxys() {
        let names = |family| SetName::ALL.map(|set| set.of(family));
        assert!(names(Family::V4).contains(&"KUBE-CLUSTER-IP".to_owned()));
        // Cut off at the end.
        assert!(names(Family::V6).contains(&"KUBE-6-LOAD-BALANCER-SOURCE-CID".to_owned()));
    }
}
