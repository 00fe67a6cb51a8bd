//! What the agent has left in the kernel of a node, for the one who wants it gone (`--cleanup`).

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use kernel::route::{Address, IfIndex, Link, LinkKind, Route};

use super::{
    outdated::{is_other_tunnel, vxlan_family},
    tables::has_our_number,
};
use crate::model::Host;

/// The bridge that flannel's CNI plugin has pods on, unless it is told another.
const BRIDGE: &str = "cni0";

/// What stands on a node and is the agent's, or was made by what it wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remains<'a> {
    /// Routes by our protocol number.
    pub routes: Vec<&'a Route>,
    /// The devices between nodes, of every backend.
    pub devices: Vec<&'a Link>,
    /// What is called as such a device, where no network tells whose it is.
    pub unclear: Vec<&'a Link>,
    /// The bridge of pods, where no pod is on it.
    pub idle_bridge: Option<&'a Link>,
    /// The bridge of pods, and how many ports it has.
    pub busy_bridge: Option<(&'a Link, usize)>,
}

/// What is left where `subnet.env` named these `networks`, and `gateways` as the addresses of the bridge.
///
/// A device is known by its name, which flannel documents, its kind, and that it has no address outside the
/// networks; the bridge by its name and a gateway.
pub fn remains<'a>(host: &'a Host, networks: &[IpNetwork], gateways: &[IpAddr]) -> Remains<'a> {
    let is_named = |link: &&Link| vxlan_family(link).is_some() || is_other_tunnel(link);
    let named: Vec<_> = host.links.iter().filter(is_named).collect();
    let (devices, unclear) = if networks.is_empty() {
        (Vec::new(), named)
    } else {
        let is_inside = |link: &&Link| has_no_other_address(host, link.index, networks);
        (named.into_iter().filter(is_inside).collect(), Vec::new())
    };
    let bridge = host.links.iter().find(|it| is_bridge(host, it, gateways));
    let ports = |bridge: &Link| {
        let is_port = |it: &&Link| it.master == Some(bridge.index);
        host.links.iter().filter(is_port).count()
    };
    Remains {
        routes: host.routes.iter().filter(|it| has_our_number(it)).collect(),
        devices,
        unclear,
        idle_bridge: bridge.filter(|it| ports(it) == 0),
        busy_bridge: bridge.map(|it| (it, ports(it))).filter(|it| it.1 > 0),
    }
}

fn has_no_other_address(host: &Host, link: IfIndex, networks: &[IpNetwork]) -> bool {
    let is_inside = |ip| networks.iter().any(|it| it.contains(ip));
    addresses(host, link).all(|it| is_inside(it.address.ip()))
}

fn is_bridge(host: &Host, link: &Link, gateways: &[IpAddr]) -> bool {
    let mut addresses = addresses(host, link.index).peekable();
    link.kind == LinkKind::Bridge
        && link.name.as_str() == BRIDGE
        && addresses.peek().is_some()
        && addresses.all(|it| gateways.contains(&it.address.ip()))
}

/// Its addresses, but those that the kernel gives by itself.
fn addresses(host: &Host, link: IfIndex) -> impl Iterator<Item = &Address> {
    let is_of_link = move |it: &&Address| it.interface == link && !it.link_local;
    host.addresses.iter().filter(is_of_link)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use kernel::route::{NextHop, Protocol};

    use super::*;
    use crate::plan::{
        PROTOCOL,
        sample::{self, link, vxlan},
    };

    fn address(index: u32, text: &str) -> Address {
        Address::global(IfIndex(index), text.parse().unwrap())
    }

    fn route(protocol: Protocol) -> Route {
        let next_hop = NextHop::Link(IfIndex(1));
        sample::route("10.5.34.0/24", next_hop, protocol)
    }

    fn names<'a>(links: &[&'a Link]) -> Vec<&'a str> {
        links.iter().map(|it| it.name.as_str()).collect()
    }

    #[test]
    fn devices_are_known_by_name_and_kind_and_have_no_other_address() {
        let host = Host {
            links: vec![
                link(1, "flannel.1", vxlan(1)),
                link(2, "flannel-v6.7", vxlan(7)),
                link(3, "flannel.2", vxlan(3)),
                link(4, "flannel.9", LinkKind::Dummy),
                link(5, "flannel-wg", LinkKind::Wireguard),
                link(6, "wg0", LinkKind::Wireguard),
                link(7, "flannel.8", vxlan(8)),
            ],
            addresses: vec![address(1, "10.5.1.0/32"), address(7, "10.6.1.0/32")],
            routes: Vec::new(),
        };
        let named = ["flannel.1", "flannel-v6.7", "flannel-wg"];
        let known = remains(&host, &["10.5.0.0/16".parse().unwrap()], &[]);
        assert_eq!(names(&known.devices), named);
        assert!(known.unclear.is_empty());
        let unknown = remains(&host, &[], &[]);
        assert!(unknown.devices.is_empty());
        assert_eq!(
            names(&unknown.unclear),
            [&named[..], &["flannel.8"]].concat()
        );
    }

    #[test]
    fn routes_are_known_by_their_number() {
        let host = Host {
            routes: vec![route(PROTOCOL), route(Protocol::STATIC)],
            ..Host::default()
        };
        assert_eq!(remains(&host, &[], &[]).routes, [&host.routes[0]]);
    }

    #[test]
    fn the_bridge_is_known_by_its_address_and_stays_for_its_pods() {
        let mut host = Host {
            links: vec![link(1, "cni0", LinkKind::Bridge)],
            addresses: vec![address(1, "10.5.1.1/24")],
            routes: Vec::new(),
        };
        let gateway = ["10.5.1.1".parse().unwrap()];
        let found = remains(&host, &[], &gateway);
        assert_eq!(
            (found.idle_bridge, found.busy_bridge),
            (Some(&host.links[0]), None)
        );
        assert_eq!(remains(&host, &[], &[]), Remains::default());
        let mut port = link(2, "veth1", LinkKind::Veth);
        port.master = Some(IfIndex(1));
        host.links.push(port);
        let found = remains(&host, &[], &gateway);
        assert_eq!(
            (found.idle_bridge, found.busy_bridge),
            (None, Some((&host.links[0], 1)))
        );
        host.addresses.push(address(1, "192.168.7.1/24"));
        assert_eq!(remains(&host, &[], &gateway), Remains::default());
    }
}
