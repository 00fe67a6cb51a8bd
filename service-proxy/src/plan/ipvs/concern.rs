//! Which of the node's addresses make a difference.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use kernel::Family;

use super::{Guard, Plan, served::serves};
use crate::plan::nftables::NodePortAddresses;

/// Which of the node's addresses make a difference to virtual servers: pods come and go with theirs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Concern {
    /// Those on our interface.
    pub bound: BTreeSet<IpAddr>,
    /// Those of Services that are on other interfaces, and so not on ours.
    elsewhere: BTreeMap<Family, BTreeSet<IpAddr>>,
    /// Where NodePorts are served.
    node_ports: BTreeMap<Family, NodePortAddresses>,
}

// === impl Concern ===

impl Concern {
    /// Whether it makes a difference that an interface other than ours has an address, or has it no longer.
    pub fn has(&self, address: IpAddr) -> bool {
        let family = Family::of(&address);
        let elsewhere = self.elsewhere.get(&family);
        let node_ports = self.node_ports.get(&family);
        self.bound.contains(&address)
            || elsewhere.is_some_and(|them| them.contains(&address))
            || node_ports.is_some_and(|them| serves(them, address))
    }
}

// === impl Plan ===

impl<G: Guard> Plan<G> {
    /// Tells which addresses of its family make a difference by now.
    pub fn tell(&self, concern: &mut Concern) {
        let of_services = self.node.iter().filter(|ip| self.filter.has_address(**ip));
        let family = self.family();
        concern
            .elsewhere
            .insert(family, of_services.copied().collect());
        concern.node_ports.insert(family, self.node_ports.clone());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_nobody_asks_for_makes_no_difference() {
        let network = NodePortAddresses::In(vec!["192.0.2.0/24".parse().unwrap()]);
        for (node_ports, address, expected) in [
            (NodePortAddresses::All, "10.244.1.1", true),
            (NodePortAddresses::All, "127.0.0.2", false),
            // Each pod's end on the node gets one.
            (NodePortAddresses::All, "fe80::1", false),
            (network.clone(), "10.244.1.1", false),
            (network.clone(), "192.0.2.7", true),
            // A Service's, here and there.
            (network.clone(), "10.96.0.1", true),
            (network, "203.0.113.1", true),
        ] {
            let address: IpAddr = address.parse().unwrap();
            let concern = Concern {
                bound: BTreeSet::from(["10.96.0.1".parse().unwrap()]),
                elsewhere: [(Family::V4, ["203.0.113.1".parse().unwrap()].into())].into(),
                node_ports: [(Family::of(&address), node_ports)].into(),
            };
            assert_eq!(concern.has(address), expected, "{address}");
        }
    }
}
