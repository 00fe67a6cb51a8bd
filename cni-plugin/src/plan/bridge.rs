//! What the bridge plugin wants of the kernel: a bridge with the gateway's addresses, a veth pair from it
//! to the container, addresses and routes in there.

use std::net::IpAddr;

use ipnetwork::{IpNetwork, IpNetworkError};
use kernel::{
    Family, IfName, Mac,
    route::{
        Address, Change, IfIndex, Link, LinkSettings, NewLink, NewLinkKind, NextHop, Protocol,
        Route, RouteOptions, VethPeer,
    },
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

/// Has the container's interface tell its neighbours of itself, by setting the Ethernet address that it has.
///
/// It also does so when it goes up, but by then the kernel may not have noticed yet that the other end has a
/// carrier, and the bridge drops what comes in by that port. A read of the port has it notice (Linux 6.9 and
/// later; earlier ones do in their own time, which is short).
pub fn announce(container: &Link) -> Change {
    let settings = LinkSettings {
        mac: container.mac,
        ..Default::default()
    };
    Change::SetLink(container.index, settings)
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

/// Settings of the container's interface, before it has addresses: key below `/proc/sys`, and value.
/// With `detect_duplicates` the kernel asks around for others with its IPv6 addresses before it uses them.
pub fn container_settings(
    result: &AddResult,
    interface: &IfName,
    detect_duplicates: bool,
) -> Vec<(String, &'static str)> {
    let has = |family| result.has(family);
    let mut settings = Vec::new();
    if has(Family::V4) {
        // Neighbours that know the address from an earlier container learn of the new one.
        settings.push((format!("net/ipv4/conf/{interface}/arp_notify"), "1"));
    }
    if has(Family::V6) {
        // Container engines that know nothing of IPv6 switch it off.
        settings.push(("net/ipv6/conf/lo/disable_ipv6".into(), "0"));
        let keys = [
            ("disable_ipv6", "0"),
            // The allocator knows that the address is unique; detecting it would take a second.
            ("accept_dad", if detect_duplicates { "1" } else { "0" }),
            // The container's own probes, come back by a hairpin, are no duplicate (RFC 7527).
            ("enhanced_dad", "1"),
            // Keep the addresses when somebody sets the interface down and up.
            ("keep_addr_on_down", "1"),
            ("ndisc_notify", "1"),
        ];
        settings
            .extend(keys.map(|(key, value)| (format!("net/ipv6/conf/{interface}/{key}"), value)));
    }
    settings
}

/// Addresses, routes and up: all that the container's interface needs.
pub fn container(
    result: &AddResult,
    interface: IfIndex,
    detect_duplicates: bool,
) -> Result<Vec<Change>, PlanError> {
    let addresses = result.ips.iter().map(|ip| {
        let address = Address::global(interface, ip.address.0);
        Change::ReplaceAddress(Address {
            no_dad: address.no_dad && !detect_duplicates,
            ..address
        })
    });
    let said_before = |(index, route): &(usize, &model::Route)| {
        let spelt_out = |it: &model::Route| model::Route {
            dst: it.dst.masked(),
            gw: result.way(it),
            ..it.clone()
        };
        let mut earlier = result.routes[..*index].iter();
        earlier.any(|it| spelt_out(it) == spelt_out(route))
    };
    let routes = result.routes.iter().enumerate();
    let routes = routes.filter(|it| !said_before(it)).map(|(index, route)| {
        let wanted = Route {
            destination: route.dst.masked().0,
            next_hop: match result.way(route) {
                Some(gateway) => NextHop::Gateway {
                    gateway,
                    interface,
                    onlink: false,
                },
                None => NextHop::Link(interface),
            },
            protocol: Protocol::BOOT,
            table: table(route),
            metric: route.priority.unwrap_or(0),
            source: None,
        };
        let mut others = result.routes[..index].iter();
        let options = RouteOptions {
            beside_others: others.any(|other| is_twin(other, route)),
            ..options(route)?
        };
        Ok(Change::ReplaceRouteWith(wanted, options))
    });
    addresses
        .chain([set_up(interface)])
        .map(Ok)
        .chain(routes)
        .collect()
}

/// Sets an interface up.
fn set_up(interface: IfIndex) -> Change {
    let settings = LinkSettings {
        up: Some(true),
        ..Default::default()
    };
    Change::SetLink(interface, settings)
}

fn options(route: &model::Route) -> Result<RouteOptions, PlanError> {
    let scope = |scope: u32| {
        let dst = route.dst;
        u8::try_from(scope).map_err(|_| PlanError::RouteScope { dst, scope })
    };
    Ok(RouteOptions {
        scope: route.scope.map(scope).transpose()?,
        mtu: route.mtu,
        advmss: route.advmss,
        beside_others: false,
    })
}

/// Whether two routes differ in their way at the most: the kernel has both of them only where it is told so.
fn is_twin(one: &model::Route, other: &model::Route) -> bool {
    let place = |it: &model::Route| (it.dst.masked(), table(it), it.priority.unwrap_or(0));
    place(one) == place(other)
}

/// The table of a route; 0 is no table's number.
pub fn table(route: &model::Route) -> u32 {
    let asked = route.table.filter(|table| *table != 0);
    asked.unwrap_or(Route::MAIN)
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
mod tests {
    use kernel::route::LinkKind;

    use super::*;
    use crate::model::IpConfig;

    const BRIDGE: IfIndex = IfIndex(5);

    fn net(text: &str) -> IpNetwork {
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

    fn result(addresses: &[(&str, &str)], routes: &[model::Route]) -> AddResult {
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

    fn to(dst: &str, gw: Option<&str>) -> model::Route {
        model::Route::new(dst.parse().unwrap(), gw.map(|gw| gw.parse().unwrap()))
    }

    fn texts(changes: &[Change]) -> Vec<String> {
        changes.iter().map(Change::to_string).collect()
    }

    const DUAL: [(&str, &str); 2] = [
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
    fn the_container_gets_addresses_then_goes_up_then_gets_routes() {
        let routes = [
            to("10.1.0.0/16", None),
            to("0.0.0.0/0", Some("10.1.17.9")),
            to("fd00::/48", None),
        ];
        let changes = container(&result(&DUAL, &routes), IfIndex(2), false).unwrap();
        let texts = texts(&changes);
        assert_eq!(texts[0], "ip address replace 10.1.17.2/24 dev if2");
        assert_eq!(texts[1], "ip address replace fd00:0:0:17::2/64 dev if2");
        assert_eq!(texts[2], "ip link set if2 up");
        assert!(texts[3].starts_with("ip route replace 10.1.0.0/16 via 10.1.17.1 dev if2"));
        assert!(texts[4].starts_with("ip route replace 0.0.0.0/0 via 10.1.17.9 dev if2"));
        assert!(texts[5].starts_with("ip route replace fd00::/48 via fd00:0:0:17::1 dev if2"));
    }

    #[test]
    fn a_route_to_another_family_is_on_the_link() {
        let other = [to("fd00::/48", None)];
        let changes = container(&result(&DUAL[..1], &other), IfIndex(2), false).unwrap();
        assert!(texts(&changes)[2].starts_with("ip route replace fd00::/48 dev if2"));
    }

    #[test]
    fn routes_to_one_destination_stand_beside_each_other() {
        let routes = [
            to("10.9.0.0/16", Some("10.1.17.8")),
            to("10.9.0.0/16", Some("10.1.17.9")),
            to("10.9.0.0/16", None),
            to("10.9.0.0/16", Some("10.1.17.1")),
            to("10.9.0.0/16", Some("10.1.17.8")),
            to("10.8.0.0/16", None),
        ];
        let changes = container(&result(&DUAL[..1], &routes), IfIndex(2), false).unwrap();
        let texts = texts(&changes);
        let starts = [
            "ip route replace 10.9.0.0/16 via 10.1.17.8 ",
            "ip route prepend 10.9.0.0/16 via 10.1.17.9 ",
            "ip route prepend 10.9.0.0/16 via 10.1.17.1 ",
            "ip route replace 10.8.0.0/16 via 10.1.17.1 ",
        ];
        assert_eq!(texts[2..].len(), starts.len(), "{texts:?}");
        for (text, start) in texts[2..].iter().zip(starts) {
            assert!(text.starts_with(start), "{text}");
        }
    }

    #[test]
    fn a_route_gets_all_that_is_asked_for_it() {
        let mut route = to("10.9.0.0/16", None);
        route.table = Some(100);
        route.priority = Some(7);
        route.mtu = Some(1300);
        route.advmss = Some(1000);
        route.scope = Some(0);
        let changes = container(&result(&DUAL, &[route.clone()]), IfIndex(2), false).unwrap();
        assert_eq!(
            texts(&changes)[3],
            "ip route replace 10.9.0.0/16 via 10.1.17.1 dev if2 table 100 metric 7 proto 3 scope 0 mtu 1300 advmss 1000"
        );
        route.scope = Some(256);
        let error = container(&result(&DUAL, &[route]), IfIndex(2), false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "ipam.routes: scope 256 of the route to 10.9.0.0/16: want a number from 0 to 255"
        );
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

    #[test]
    fn settings_are_those_of_the_families_in_use() {
        let keys = |addresses: &[(&str, &str)]| -> Vec<String> {
            container_settings(&result(addresses, &[]), &"eth0".parse().unwrap(), false)
                .into_iter()
                .map(|(key, _)| key)
                .collect()
        };
        assert_eq!(keys(&DUAL[..1]), ["net/ipv4/conf/eth0/arp_notify"]);
        assert!(keys(&DUAL).contains(&"net/ipv6/conf/eth0/accept_dad".to_owned()));
        assert!(keys(&[]).is_empty());
    }
}
