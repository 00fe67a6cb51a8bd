//! Which other nodes there are to reach.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use ipnetwork::IpNetwork;
use kernel::{Family, Mac, wireguard::PublicKey};

use super::endpoint;
use crate::model::{Attributes, Backend, BackendData, Lease, LeaseKey, Snapshot};

/// Another node's subnet, in one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address in the underlay.
    pub address: IpAddr,
    /// How packets get there.
    pub way: Way,
}

/// How packets get to another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// In VXLAN, to the tunnel endpoint of this Ethernet address.
    Vxlan(Mac),
    /// In IPv4, to the node's address.
    Ipip,
    /// In WireGuard, to whom the key belongs, who is at first to be found there.
    Wireguard(PublicKey, SocketAddr),
    /// As they are, with the node as gateway on this node's link.
    Direct,
}

/// All that is to be reached in one family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    /// The other nodes by their subnets.
    pub by_subnet: BTreeMap<IpNetwork, Peer>,
    /// Leases that are left out, and why: one line each, for the log.
    pub skipped: Vec<String>,
    /// Subnets of leases that no peer comes from, other than that of this node. Whether a peer has such a
    /// subnet depends on several leases.
    pub unclear: BTreeSet<IpNetwork>,
}

// === impl Peers ===

impl Peers {
    /// Their addresses in the underlay.
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        self.by_subnet.values().map(|peer| peer.address).collect()
    }

    /// Has those whose address is `on_link` reached without a tunnel.
    pub fn route_directly(&mut self, on_link: &BTreeSet<IpAddr>) {
        for peer in self.by_subnet.values_mut() {
            peer.route_directly(on_link);
        }
    }
}

// === impl Peer ===

impl Peer {
    /// Has it reached without a tunnel if its address is `on_link`.
    pub fn route_directly(&mut self, on_link: &BTreeSet<IpAddr>) {
        if on_link.contains(&self.address) {
            self.way = Way::Direct;
        }
    }

    /// Whom its tunnel of WireGuard leads to, if it has one.
    pub const fn tunnel(&self) -> Option<(PublicKey, SocketAddr)> {
        match self.way {
            Way::Wireguard(key, endpoint) => Some((key, endpoint)),
            _ => None,
        }
    }
}

/// The peers of a node that holds a lease `held` and says `own` in it.
pub fn peers(
    family: Family,
    backend: &Backend,
    own: &Attributes,
    held: &LeaseKey,
    snapshot: &Snapshot,
) -> Peers {
    let mut peers = Peers::default();
    for lease in snapshot.leases().filter(|lease| lease.key != *held) {
        let Some(subnet) = lease.key.subnet(family) else {
            continue;
        };
        match peer(family, backend, own, lease, held) {
            Ok(Some(_)) if peers.by_subnet.contains_key(&subnet) => {
                let name = lease.key;
                peers.skipped.push(format!(
                    "lease {name} is ignored: an earlier one has its subnet {subnet}"
                ));
            }
            Ok(Some(peer)) => {
                peers.by_subnet.insert(subnet, peer);
                continue;
            }
            Ok(None) => {}
            Err(why) => peers
                .skipped
                .push(format!("lease {} is ignored: {why}", lease.key)),
        }
        peers.unclear.insert(subnet);
    }
    peers
}

/// `None` for a lease of this node from before, which is not ended yet, for a reservation that its node has
/// not taken yet, and where nothing carries packets.
pub fn peer(
    family: Family,
    backend: &Backend,
    own: &Attributes,
    lease: &Lease,
    held: &LeaseKey,
) -> Result<Option<Peer>, String> {
    let its = &lease.attributes;
    let carries_none = |attributes: &Attributes| attributes.backend.name().is_empty();
    if carries_none(own) || carries_none(its) || its.is_same_node(own) {
        return Ok(None);
    }
    let peer = match (backend, &its.backend) {
        (Backend::Vxlan(_), BackendData::Vxlan(vteps)) => match vteps.get(family) {
            Some(vtep) => at_public_address(family, its, Way::Vxlan(vtep.mac))?,
            None => return Err(format!("it names no {family} tunnel endpoint")),
        },
        (Backend::Wireguard(conf), BackendData::Wireguard(keys)) => {
            let (key, address) = endpoint(family, conf, own, its, keys)?;
            Peer {
                address: address.ip(),
                way: Way::Wireguard(key, address),
            }
        }
        (Backend::Ipip(_), BackendData::Ipip) => at_public_address(family, its, Way::Ipip)?,
        (Backend::HostGw, BackendData::HostGw) => at_public_address(family, its, Way::Direct)?,
        _ => {
            let (its, own) = (its.backend.name(), own.backend.name());
            return Err(format!("its backend is {its}, not {own}"));
        }
    };
    let overlaps = |other: IpNetwork| {
        held.subnet(family)
            .is_some_and(|own| own.contains(other.network()) || other.contains(own.network()))
    };
    if lease.key.subnet(family).is_some_and(overlaps) {
        return Err(format!("it overlaps this node's lease {held}"));
    }
    Ok(Some(peer))
}

fn at_public_address(family: Family, its: &Attributes, way: Way) -> Result<Peer, String> {
    let address = its.public.get(family).copied();
    let address = address.ok_or_else(|| format!("it names no public {family} address"))?;
    Ok(Peer { address, way })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Entry, IpipConf, NetConf};

    const OWN: &str = r#"{"PublicIP":"192.168.64.1","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:01"}}"#;

    fn value(node: u8) -> String {
        OWN.replace("64.1", &format!("64.{node}"))
            .replace(":01\"", &format!(":0{node}\""))
    }

    fn peers_of(entries: &[(&str, String)]) -> Peers {
        let conf = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;
        let backend = NetConf::parse(conf.as_bytes()).unwrap().backend;
        peers_by(&backend, OWN, entries)
    }

    fn peers_by(backend: &Backend, own: &str, entries: &[(&str, String)]) -> Peers {
        let own = Lease::parse("10.5.1.0-24", own.as_bytes()).unwrap();
        let entry = |(name, value): &(&str, String)| {
            (
                (*name).to_owned(),
                Entry::parse(name, value.as_bytes(), 7, 9),
            )
        };
        let snapshot = Snapshot {
            revision: 7,
            entries: entries.iter().map(entry).collect(),
            ..Snapshot::default()
        };
        peers(Family::V4, backend, &own.attributes, &own.key, &snapshot)
    }

    #[test]
    fn others_are_peers_and_this_node_is_none() {
        let peers = peers_of(&[
            ("10.5.1.0-24", value(1)),
            ("10.5.2.0-24", value(2)),
            ("10.5.3.0-24&fd00::-64", value(3)),
            ("10.5.9.0-24", value(1)),
            ("bad", value(4)),
            ("10.5.5.0-24", r#"{"PublicIP":"192.168.64.5"}"#.into()),
        ]);
        let subnets: Vec<_> = peers.by_subnet.keys().map(IpNetwork::to_string).collect();
        assert_eq!(subnets, ["10.5.2.0/24", "10.5.3.0/24"]);
        let peer = peers.by_subnet[&"10.5.2.0/24".parse().unwrap()];
        assert_eq!(peer.address, "192.168.64.2".parse::<IpAddr>().unwrap());
        assert_eq!(peer.way, Way::Vxlan(Mac([2, 0, 0, 0, 0, 2])));
        assert_eq!(peers.skipped, Vec::<String>::new());
        let unclear: Vec<_> = peers.unclear.iter().map(IpNetwork::to_string).collect();
        assert_eq!(unclear, ["10.5.5.0/24", "10.5.9.0/24"]);
    }

    #[test]
    fn what_is_on_the_link_needs_no_tunnel() {
        let mut peers = peers_of(&[("10.5.2.0-24", value(2)), ("10.5.3.0-24", value(3))]);
        assert_eq!(peers.addresses().len(), 2);
        peers.route_directly(&["192.168.64.3".parse().unwrap()].into_iter().collect());
        let ways: Vec<_> = peers.by_subnet.values().map(|peer| peer.way).collect();
        assert_eq!(ways, [Way::Vxlan(Mac([2, 0, 0, 0, 0, 2])), Way::Direct]);
    }

    #[test]
    fn only_nodes_of_the_same_backend_are_peers() {
        let own =
            |backend: &str| format!(r#"{{"PublicIP":"192.168.64.1","BackendType":"{backend}"}}"#);
        let others = |backend: &str| own(backend).replace("64.1", "64.7");
        let ipip = Backend::Ipip(IpipConf {
            direct_routing: false,
        });
        for (backend, name, other, way, skipped) in [
            (
                &Backend::HostGw,
                "host-gw",
                "host-gw",
                Some(Way::Direct),
                None,
            ),
            (&ipip, "ipip", "ipip", Some(Way::Ipip), None),
            (
                &Backend::HostGw,
                "host-gw",
                "ipip",
                None,
                Some("its backend is ipip, not host-gw"),
            ),
            (
                &ipip,
                "ipip",
                "udp",
                None,
                Some("its backend is udp, not ipip"),
            ),
            (&Backend::HostGw, "host-gw", "", None, None),
            (&Backend::Alloc, "", "host-gw", None, None),
            (&Backend::Alloc, "", "", None, None),
        ] {
            let peers = peers_by(backend, &own(name), &[("10.5.7.0-24", others(other))]);
            let ways: Vec<_> = peers.by_subnet.values().map(|peer| peer.way).collect();
            assert_eq!(ways, Vec::from_iter(way), "{name} {other}");
            let skipped = skipped.map(|why| format!("lease 10.5.7.0-24 is ignored: {why}"));
            assert_eq!(peers.skipped, Vec::from_iter(skipped), "{name} {other}");
        }
    }

    #[test]
    fn what_can_not_be_reached_is_said_once() {
        let peers = peers_of(&[
            ("10.5.0.0-16", value(2)),
            ("10.5.1.0-24", value(3)),
            ("10.5.1.128-25", value(4)),
            ("10.5.3.0-24", value(5)),
            ("10.5.3.0-24&fd00::-64", value(6)),
            (
                "10.5.7.0-24",
                r#"{"PublicIP":"192.168.64.7","BackendType":"host-gw"}"#.into(),
            ),
        ]);
        assert_eq!(peers.by_subnet.len(), 1);
        assert_eq!(
            peers.skipped,
            [
                "lease 10.5.0.0-16 is ignored: it overlaps this node's lease 10.5.1.0-24",
                "lease 10.5.1.128-25 is ignored: it overlaps this node's lease 10.5.1.0-24",
                "lease 10.5.3.0-24&fd00::-64 is ignored: an earlier one has its subnet 10.5.3.0/24",
                "lease 10.5.7.0-24 is ignored: its backend is host-gw, not vxlan",
            ]
        );
    }
}
