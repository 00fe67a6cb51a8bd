//! Names of sets, equal to kube-proxy's: other programs and people know them (service-proxy 2.6).

use kernel::{
    Family,
    ipset::{Kind, NAME_MAX},
};

/// A set of IPVS mode, of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SetName {
    /// What follows the prefix.
    suffix: &'static str,
    /// What its members are made of.
    pub kind: Kind,
}

// === impl SetName ===

impl SetName {
    /// Those of NodePorts, of TCP.
    pub const NODE_PORT_TCP: Self = Self::new("NODE-PORT-TCP", Kind::Port);
    /// Those of UDP.
    pub const NODE_PORT_UDP: Self = Self::new("NODE-PORT-UDP", Kind::Port);
    /// Those of SCTP, with the addresses of the node.
    pub const NODE_PORT_SCTP: Self = Self::new("NODE-PORT-SCTP-HASH", Kind::IpPort);

    /// All that kube-proxy makes.
    pub const ALL: [Self; 17] = [
        Self::new("LOOP-BACK", Kind::IpPortIp),
        Self::new("CLUSTER-IP", Kind::IpPort),
        Self::new("EXTERNAL-IP", Kind::IpPort),
        Self::new("EXTERNAL-IP-LOCAL", Kind::IpPort),
        Self::new("LOAD-BALANCER", Kind::IpPort),
        Self::new("LOAD-BALANCER-FW", Kind::IpPort),
        Self::new("LOAD-BALANCER-LOCAL", Kind::IpPort),
        Self::new("LOAD-BALANCER-SOURCE-IP", Kind::IpPortIp),
        Self::new("LOAD-BALANCER-SOURCE-CIDR", Kind::IpPortNet),
        Self::NODE_PORT_TCP,
        Self::new("NODE-PORT-LOCAL-TCP", Kind::Port),
        Self::NODE_PORT_UDP,
        Self::new("NODE-PORT-LOCAL-UDP", Kind::Port),
        Self::NODE_PORT_SCTP,
        Self::new("NODE-PORT-LOCAL-SCTP-HASH", Kind::IpPort),
        Self::new("HEALTH-CHECK-NODE-PORT", Kind::Port),
        Self::new("IPVS-IPS", Kind::Ip),
    ];

    const fn new(suffix: &'static str, kind: Kind) -> Self {
        Self { suffix, kind }
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
        let longest = names(Family::V6).into_iter().max_by_key(String::len);
        assert_eq!(longest.as_deref(), Some("KUBE-6-LOAD-BALANCER-SOURCE-CID"));
    }
}
