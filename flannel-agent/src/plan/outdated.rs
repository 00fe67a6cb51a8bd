//! Devices that an earlier configuration has left behind.

use ipnetwork::IpNetwork;
use kernel::{
    Family, IfName, Vni,
    route::{Address, Link, LinkKind},
};

use super::vtep_mac;
use crate::model::{ByFamily, Host, IpipConf, VxlanConf, WireguardConf};

/// The devices that are certainly this agent's own, but not `current`. All have the name that a device of
/// their kind has, and no address outside the network of their family. One for VXLAN has the Ethernet
/// address that is computed for its network identifier on this `node` (one that was taken over from
/// flanneld has another, and is not touched); one of the other kinds has an address in the network.
pub fn outdated_devices<'a>(
    host: &'a Host,
    node: &str,
    networks: &ByFamily<IpNetwork>,
    current: &[IfName],
) -> Vec<&'a Link> {
    let is_outdated = |link: &&Link| {
        !current.contains(&link.name)
            && (family(link, node)
                .is_some_and(|family| has_no_foreign_address(host, link, networks.get(family)))
                || is_other_tunnel(link) && has_only_addresses_in(host, link, networks))
    };
    host.links.iter().filter(is_outdated).collect()
}

/// The family that a device of this agent is for.
fn family(link: &Link, node: &str) -> Option<Family> {
    let (family, vni) = vxlan_family(link)?;
    (link.mac == Some(vtep_mac(node, family, vni))).then_some(family)
}

/// The family that a device for VXLAN is for by its name, and its network identifier.
pub(super) fn vxlan_family(link: &Link) -> Option<(Family, Vni)> {
    let LinkKind::Vxlan(vxlan) = &link.kind else {
        return None;
    };
    let is_name = |family: &Family| {
        VxlanConf::name_of_device(*family, vxlan.vni).is_ok_and(|name| name == link.name)
    };
    let family = Family::ALL.into_iter().find(is_name)?;
    Some((family, vxlan.vni))
}

/// Whether it is called as a device for ipip or WireGuard, and is one.
pub(super) fn is_other_tunnel(link: &Link) -> bool {
    let is_called = |name: Result<IfName, _>| name.is_ok_and(|name| name == link.name);
    match link.kind {
        LinkKind::Ipip(_) => is_called(IpipConf::device_name()),
        LinkKind::Wireguard => {
            let mut names = Family::ALL.into_iter().map(WireguardConf::name_of_device);
            names.any(is_called)
        }
        _ => false,
    }
}

/// Whether there is an address, and none outside the networks.
fn has_only_addresses_in(host: &Host, link: &Link, networks: &ByFamily<IpNetwork>) -> bool {
    let is_of_link = |it: &&Address| it.interface == link.index && !it.link_local;
    let mut addresses = host.addresses.iter().filter(is_of_link).peekable();
    let is_inside = |ip| networks.iter().any(|(_, network)| network.contains(ip));
    addresses.peek().is_some() && addresses.all(|it| is_inside(it.address.ip()))
}

fn has_no_foreign_address(host: &Host, link: &Link, network: Option<&IpNetwork>) -> bool {
    let mut addresses = host.addresses.iter();
    addresses.all(|it| {
        it.interface != link.index
            || it.link_local
            || network.is_none_or(|network| network.contains(it.address.ip()))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::plan::sample::{link, vxlan};

    const NODE: &str = "machine/192.168.64.1";

    /// A device of this agent for network identifier 7, changed.
    fn host(address: &str, change: impl FnOnce(&mut Link)) -> Host {
        let vni = 7.try_into().unwrap();
        let mut link = Link {
            mac: Some(vtep_mac(NODE, Family::V4, vni)),
            ..link(3, "flannel.7", vxlan(7))
        };
        change(&mut link);
        Host {
            addresses: vec![Address::global(link.index, address.parse().unwrap())],
            links: vec![link],
            routes: Vec::new(),
        }
    }

    fn outdated(host: &Host, current: &str) -> usize {
        let network = (Family::V4, "10.5.0.0/16".parse().unwrap());
        let networks = [network].into_iter().collect();
        outdated_devices(host, NODE, &networks, &[current.parse().unwrap()]).len()
    }

    #[test]
    fn only_what_is_certainly_ours_is_outdated() {
        let inside = "10.5.34.0/32";
        assert_eq!(outdated(&host(inside, |_| {}), "flannel.1"), 1);
        assert_eq!(outdated(&host(inside, |_| {}), "flannel.7"), 0);
        assert_eq!(outdated(&host("10.9.34.0/32", |_| {}), "flannel.1"), 0);
        for change in [
            (|it| it.name = "flannel.8".parse().unwrap()) as fn(&mut Link),
            |it| it.mac = Some(kernel::Mac([2, 0, 0, 0, 0, 1])),
            |it| it.kind = LinkKind::Dummy,
        ] {
            assert_eq!(outdated(&host(inside, change), "flannel.1"), 0);
        }
    }

    #[test]
    fn a_tunnel_of_another_backend_is_known_by_name_kind_and_address() {
        let tunnel = |name: &str, address| {
            host(address, |it| {
                it.name = name.parse().unwrap();
                it.kind = LinkKind::Wireguard;
                it.mac = None;
            })
        };
        let inside = "10.5.34.0/32";
        for name in ["flannel-wg", "flannel-wg-v6"] {
            assert_eq!(outdated(&tunnel(name, inside), "flannel.1"), 1);
            assert_eq!(outdated(&tunnel(name, inside), name), 0);
        }
        assert_eq!(outdated(&tunnel("wg0", inside), "flannel.1"), 0);
        assert_eq!(outdated(&tunnel("flannel.ipip", inside), "flannel.1"), 0);
        assert_eq!(
            outdated(&tunnel("flannel-wg", "10.9.34.0/32"), "flannel.1"),
            0
        );
        let mut bare = tunnel("flannel-wg", inside);
        bare.addresses.clear();
        assert_eq!(outdated(&bare, "flannel.1"), 0);
    }
}
