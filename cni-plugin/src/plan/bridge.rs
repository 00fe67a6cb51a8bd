//! What the bridge plugin wants of the node's kernel: a bridge with the gateway's addresses, and a veth pair from it
//! to the container.

use std::net::IpAddr;

use ipnetwork::{IpNetwork, IpNetworkError};
use kernel::{
    Family, IfName, Mac,
    route::{Address, Change, IfIndex, Link, LinkSettings, NewLink, NewLinkKind, VethPeer},
};

use crate::model::{self, AddResult, BridgeConf, Cidr};

/// The first two bytes of Ethernet addresses that are made of an IP address, as CNI's bridge plugin and
/// OVN make them; locally administered.
const MAC_PREFIX: [u8; 2] = [0x0a, 0x58];

/// Why the plan can't be made.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The bridge serves another subnet.
    #[error(
        "failed to set bridge addr: {bridge:?} already has an IP address different from {wanted}"
    )]
    OtherAddress {
        /// The bridge's name.
        bridge: String,
        /// The gateway's address that it should have.
        wanted: IpNetwork,
    },
    /// A route asks for a scope that there is none of.
    #[error("ipam.routes: scope {scope} of the route to {dst}: want a number from 0 to 255")]
    RouteScope {
        /// The route's destination.
        dst: Cidr,
        /// What it asks for.
        scope: u32,
    },
    /// A prefix length that its family does not have.
    #[error(transparent)]
    Prefix(#[from] IpNetworkError),
}

/// The gateway's addresses with the prefix lengths of their subnets: what the bridge should have.
pub fn gateways(result: &AddResult) -> Result<Vec<IpNetwork>, PlanError> {
    let network = |ip: &model::IpConfig| {
        let gateway = ip.gateway?;
        Some(IpNetwork::new(gateway, ip.address.0.prefix()))
    };
    let networks = result.ips.iter().filter_map(network);
    Ok(networks.collect::<Result<_, _>>()?)
}

/// Adds a default route for each family of the result that has no route of its own to everywhere.
pub fn add_default_routes(result: &mut AddResult) {
    for family in Family::ALL {
        let everywhere = Cidr::default_of(family);
        let has_one = |route: &model::Route| route.gw.is_some() && route.dst == everywhere;
        if let Some(gateway) = result.gateway(family)
            && !result.routes.iter().any(has_one)
        {
            result
                .routes
                .push(model::Route::new(everywhere, Some(gateway)));
        }
    }
}

/// A new bridge. Its Ethernet address is told by the gateway's IP address, and set, so that it neither
/// changes with the bridge's ports (the lowest of theirs is the default) nor by a restart of the node.
pub fn new_bridge(name: IfName, mtu: Option<u32>, gateways: &[IpNetwork]) -> Change {
    Change::AddLink(NewLink {
        name,
        kind: NewLinkKind::Bridge,
        mac: gateways.first().map(|gateway| mac_of(gateway.ip())),
        mtu,
        up: true,
        master: None,
    })
}

/// What an existing bridge lacks of the gateway's addresses, given those that it has. An address of another
/// subnet is taken from it where `may_go` allows that.
pub fn complete_bridge(
    bridge: &Link,
    observed: &[Address],
    gateways: &[IpNetwork],
    may_go: impl Fn(IpNetwork) -> bool,
) -> Result<Vec<Change>, PlanError> {
    let mut changes = Vec::new();
    for gateway in gateways {
        if observed.iter().any(|it| it.address == *gateway) {
            continue;
        }
        for other in observed.iter().filter(|it| excludes(it.address, *gateway)) {
            if !may_go(other.address) {
                return Err(PlanError::OtherAddress {
                    bridge: bridge.name.to_string(),
                    wanted: *gateway,
                });
            }
            changes.push(Change::DeleteAddress(other.clone()));
        }
        let address = Address::global(bridge.index, *gateway);
        changes.push(Change::ReplaceAddress(address));
    }
    if !bridge.up {
        changes.push(set_up(bridge.index));
    }
    Ok(changes)
}

/// Whether an address of a bridge is that of a subnet that this node had earlier in the same network: the
/// first one of a subnet that the container's routes lead to.
pub fn is_of_older_subnet(address: IpNetwork, result: &AddResult) -> bool {
    let first = match address {
        IpNetwork::V4(it) => it.nth(1).map(IpAddr::V4),
        IpNetwork::V6(it) => it.iter().nth(1).map(IpAddr::V6),
    };
    let is_inside = |route: &model::Route| {
        let network = route.dst.masked().0;
        network.prefix() > 0
            && network.prefix() < address.prefix()
            && network.contains(address.ip())
    };
    first == Some(address.ip()) && result.routes.iter().any(is_inside)
}

/// A veth pair from a port of the bridge to the container, made in both namespaces at once.
pub fn veth(port: IfName, container: VethPeer, bridge: IfIndex) -> Change {
    Change::AddLink(NewLink {
        name: port,
        mac: None,
        mtu: container.mtu,
        kind: NewLinkKind::Veth(container),
        up: true,
        master: Some(bridge),
    })
}

/// Whether a bridge may have another Ethernet address or MTU than before it got a port. An address that was not
/// set is the lowest of its ports'; one that is made of the gateway's was. An MTU that was not set is the least
/// of its ports', and what it was where they all have the same.
pub fn changes_by_port(bridge: &Link, port: &Link, gateways: &[IpNetwork]) -> bool {
    let set = gateways.first().map(|gateway| mac_of(gateway.ip()));
    bridge.mac != set || bridge.mtu != port.mtu
}

/// Has the bridge take frames that are for others.
pub fn promiscuous(bridge: IfIndex) -> Change {
    let settings = LinkSettings {
        promiscuous: Some(true),
        ..Default::default()
    };
    Change::SetLink(bridge, settings)
}

/// What the host's end of a pair gets once it is a port of the bridge.
pub fn port_settings(conf: &BridgeConf, alias: Option<String>) -> LinkSettings {
    LinkSettings {
        alias,
        hairpin: conf.hairpin_mode.then_some(true),
        isolated: conf.port_isolation.then_some(true),
        ..Default::default()
    }
}

/// Settings of the host that let it forward for the container: keys below `/proc/sys`, to be `1`.
pub fn forwarding(result: &AddResult) -> Vec<&'static str> {
    let keys = [
        (Family::V4, "net/ipv4/ip_forward"),
        (Family::V6, "net/ipv6/conf/all/forwarding"),
    ];
    let used = keys.into_iter().filter(|(family, _)| result.has(*family));
    used.map(|(_, key)| key).collect()
}

/// The setting that has an interface not look for duplicates of its IPv6 addresses.
pub fn no_duplicate_detection(interface: &IfName) -> (String, &'static str) {
    (format!("net/ipv6/conf/{interface}/accept_dad"), "0")
}

/// Sets an interface up.
pub fn set_up(interface: IfIndex) -> Change {
    let settings = LinkSettings {
        up: Some(true),
        ..Default::default()
    };
    Change::SetLink(interface, settings)
}

/// Whether a bridge with the one address can't have the other as well: two IPv4 subnets, or IPv6 subnets
/// that overlap.
fn excludes(observed: IpNetwork, wanted: IpNetwork) -> bool {
    match Family::of_network(&wanted) {
        Family::V4 => observed.is_ipv4(),
        Family::V6 => observed.contains(wanted.ip()) || wanted.contains(observed.ip()),
    }
}

/// An Ethernet address made of an IP address: all four bytes of an IPv4 address; of an IPv6 address its
/// four words on top of each other, so that subnet and host both count.
pub fn mac_of(address: IpAddr) -> Mac {
    let folded = match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(address) => {
            let number = u128::from(address);
            let words = [96, 64, 32, 0].map(|shift| (number >> shift) as u32);
            words
                .into_iter()
                .fold(0, |folded, word| folded ^ word)
                .to_be_bytes()
        }
    };
    let [a, b] = MAC_PREFIX;
    let [c, d, e, f] = folded;
    Mac([a, b, c, d, e, f])
}

#[cfg(test)]
pub(super) mod tests {
    use kernel::route::LinkKind;

    use super::*;
    use crate::model::IpConfig;

    const BRIDGE: IfIndex = IfIndex(5);

    pub fn net(text: &str) -> IpNetwork {
        text.parse().unwrap()
    }

    fn bridge(up: bool) -> Link {
        Link {
            index: BRIDGE,
            name: "cni0".parse().unwrap(),
            mac: None,
            mtu: 1450,
            up,
            carrier: true,
            loopback: false,
            master: None,
            parent: None,
            kind: LinkKind::Bridge,
            hairpin: None,
        }
    }

    pub fn result(addresses: &[(&str, &str)], routes: &[model::Route]) -> AddResult {
        let ip = |(address, gateway): &(&str, &str)| IpConfig {
            address: address.parse().unwrap(),
            gateway: gateway.parse().ok(),
            interface: Some(2),
        };
        AddResult {
            ips: addresses.iter().map(ip).collect(),
            routes: routes.to_vec(),
            ..Default::default()
        }
    }

    pub fn to(dst: &str, gw: Option<&str>) -> model::Route {
        model::Route::new(dst.parse().unwrap(), gw.map(|gw| gw.parse().unwrap()))
    }

    pub fn texts(changes: &[Change]) -> Vec<String> {
        changes.iter().map(Change::to_string).collect()
    }

    pub const DUAL: [(&str, &str); 2] = [
        ("10.1.17.2/24", "10.1.17.1"),
        ("fd00:0:0:17::2/64", "fd00:0:0:17::1"),
    ];

    #[test]
    fn the_bridge_has_an_address_of_its_own_in_each_subnet() {
        for (gateway, mac) in [
            ("10.1.17.1/24", "0a:58:0a:01:11:01"),
            ("fd00:0:0:17::1/64", "0a:58:fd:00:00:16"),
            ("fd00:0:0:18::1/64", "0a:58:fd:00:00:19"),
        ] {
            let Change::AddLink(link) = new_bridge("cni0".parse().unwrap(), None, &[net(gateway)])
            else {
                panic!("not a new link");
            };
            assert_eq!(link.mac.unwrap().to_string(), mac);
        }
    }

    #[test]
    fn the_bridge_gets_what_it_lacks_and_nothing_else() {
        let gateways = gateways(&result(&DUAL, &[])).unwrap();
        let has = |address: &str| Address::global(BRIDGE, net(address));
        let changes = complete_bridge(&bridge(true), &[], &gateways, |_| false).unwrap();
        assert_eq!(
            texts(&changes),
            [
                "ip address replace 10.1.17.1/24 dev if5",
                "ip address replace fd00:0:0:17::1/64 dev if5",
            ]
        );
        let complete = [
            has("10.1.17.1/24"),
            has("fe80::1/64"),
            has("fd00:0:0:99::1/64"),
            has("fd00:0:0:17::1/64"),
        ];
        assert_eq!(
            complete_bridge(&bridge(true), &complete, &gateways, |_| false).unwrap(),
            []
        );
        let changes = complete_bridge(&bridge(false), &complete, &gateways, |_| false).unwrap();
        assert_eq!(texts(&changes), ["ip link set if5 up"]);
    }

    #[test]
    fn a_bridge_of_another_subnet_is_refused() {
        for (observed, wanted) in [
            ("10.1.18.1/24", "10.1.17.1/24"),
            ("10.1.17.1/16", "10.1.17.1/24"),
            ("fd00::1/32", "fd00:0:0:17::1/64"),
        ] {
            let observed = [Address::global(BRIDGE, net(observed))];
            let error =
                complete_bridge(&bridge(true), &observed, &[net(wanted)], |_| false).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!(
                    "failed to set bridge addr: \"cni0\" already has an IP address different from {wanted}"
                )
            );
        }
    }

    #[test]
    fn an_address_of_another_subnet_goes_where_it_may() {
        let observed = [Address::global(BRIDGE, net("10.1.18.1/24"))];
        let wanted = [net("10.1.17.1/24")];
        let changes = complete_bridge(&bridge(true), &observed, &wanted, |_| true).unwrap();
        assert_eq!(
            texts(&changes),
            [
                "ip address delete 10.1.18.1/24 dev if5",
                "ip address replace 10.1.17.1/24 dev if5",
            ]
        );
    }

    #[test]
    fn a_bridge_of_ours_with_ports_of_one_mtu_is_the_same_with_another() {
        let gateways = [net("10.1.17.1/24")];
        let link = |mac: &str, mtu| Link {
            mac: mac.parse().ok(),
            mtu,
            ..bridge(true)
        };
        let port = link("0e:00:00:00:00:01", 1450);
        for (mac, mtu, changes) in [
            ("0a:58:0a:01:11:01", 1450, false),
            ("0a:58:0a:01:11:01", 1500, true),
            ("0a:58:0a:01:11:02", 1450, true),
            ("", 1450, true),
        ] {
            let bridge = link(mac, mtu);
            let found = changes_by_port(&bridge, &port, &gateways);
            assert_eq!(found, changes, "{mac} {mtu}");
        }
        assert!(changes_by_port(
            &link("0a:58:0a:01:11:01", 1450),
            &port,
            &[]
        ));
    }

    #[test]
    fn an_older_subnet_is_one_of_the_same_network() {
        let result = result(&DUAL, &[to("10.1.0.0/16", None), to("fd00::/48", None)]);
        for (address, is_older) in [
            ("10.1.18.1/24", true),
            ("fd00:0:0:18::1/64", true),
            ("10.1.18.2/24", false),
            ("10.1.0.1/16", false),
            ("192.168.1.1/24", false),
        ] {
            assert_eq!(
                is_of_older_subnet(net(address), &result),
                is_older,
                "{address}"
            );
        }
        let everywhere = super::tests::result(&DUAL, &[to("0.0.0.0/0", None)]);
        assert!(!is_of_older_subnet(net("192.168.1.1/24"), &everywhere));
    }

    #[test]
    fn a_default_route_is_added_where_there_is_none() {
        let mut plain = result(&DUAL, &[to("10.1.0.0/16", None)]);
        add_default_routes(&mut plain);
        assert_eq!(
            plain.routes[1..],
            [
                to("0.0.0.0/0", Some("10.1.17.1")),
                to("::/0", Some("fd00:0:0:17::1")),
            ]
        );
        let mut own = result(&DUAL[..1], &[to("0.0.0.0/0", Some("10.1.17.9"))]);
        add_default_routes(&mut own);
        assert_eq!(own.routes.len(), 1);
    }
}
