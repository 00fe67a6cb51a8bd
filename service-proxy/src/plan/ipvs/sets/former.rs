//! The NodePorts of a kube-proxy that was here before.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use kernel::{
    Family,
    ipset::{Member, ObservedSet},
    ipvs::{Protocol, VirtualAddress},
};

use super::SetName;

/// The NodePorts of which a kube-proxy that was here before has left virtual servers, or we have, by what sets say:
/// their addresses, those of the node, don't tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Former {
    ports: BTreeSet<(Family, Protocol, u16)>,
    servers: BTreeSet<VirtualAddress>,
}

// === impl Former ===

impl Former {
    /// The names of the sets that tell.
    pub fn sets() -> impl Iterator<Item = String> {
        let of_family = |family| Self::SETS.map(|(_, set)| set.of(family));
        Family::ALL.into_iter().flat_map(of_family)
    }

    const SETS: [(Protocol, SetName); 4] = [
        (Protocol::Tcp, SetName::NODE_PORT_TCP),
        (Protocol::Udp, SetName::NODE_PORT_UDP),
        (Protocol::Sctp, SetName::NODE_PORT_SCTP),
        // Of ours, each member with its protocol.
        (Protocol::Tcp, SetName::IPVS_SERVERS),
    ];

    /// What sets say, by name.
    pub fn read(sets: &BTreeMap<String, ObservedSet>) -> Self {
        let mut former = Self::default();
        for family in Family::ALL {
            for (protocol, name) in Self::SETS {
                let Some(ObservedSet::Known(set)) = sets.get(&name.of(family)) else {
                    continue;
                };
                for member in &set.members {
                    match *member {
                        Member::Port(port) => {
                            former.ports.insert((family, protocol, port));
                        }
                        Member::IpPort(protocol, socket) => {
                            former.servers.insert(VirtualAddress { protocol, socket });
                        }
                        _ => {}
                    }
                }
            }
        }
        former
    }

    /// Whether a virtual server is one of those, on a node with some addresses.
    pub fn has(&self, address: &VirtualAddress, node: &BTreeSet<IpAddr>) -> bool {
        let port = (address.family(), address.protocol, address.socket.port());
        node.contains(&address.socket.ip())
            && (self.ports.contains(&port) || self.servers.contains(address))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use kernel::ipset::{Definition, Set};

    use super::*;

    #[test]
    fn node_ports_at_addresses_of_the_node() {
        let set = |name: SetName, family, members: &[Member]| {
            let set = Set {
                definition: Definition::new(name.kind, family),
                members: members.iter().copied().collect(),
            };
            (name.of(family), ObservedSet::Known(set))
        };
        let sctp = Member::IpPort(Protocol::Sctp, "192.0.2.1:30002".parse().unwrap());
        let sets = BTreeMap::from([
            set(SetName::NODE_PORT_TCP, Family::V4, &[Member::Port(30000)]),
            set(SetName::NODE_PORT_UDP, Family::V6, &[Member::Port(30001)]),
            set(SetName::NODE_PORT_SCTP, Family::V4, &[sctp]),
        ]);
        let former = Former::read(&sets);
        let node = ["192.0.2.1", "2001:db8::1"].map(|it| it.parse().unwrap());
        for (protocol, socket, expected) in [
            (Protocol::Tcp, "192.0.2.1:30000", true),
            (Protocol::Tcp, "192.0.2.2:30000", false),
            (Protocol::Tcp, "[2001:db8::1]:30000", false),
            (Protocol::Udp, "192.0.2.1:30000", false),
            (Protocol::Udp, "[2001:db8::1]:30001", true),
            (Protocol::Sctp, "192.0.2.1:30002", true),
            (Protocol::Sctp, "192.0.2.1:30003", false),
        ] {
            let socket = socket.parse().unwrap();
            let address = VirtualAddress { protocol, socket };
            assert_eq!(former.has(&address, &node.into()), expected, "{address}");
        }
    }
}
