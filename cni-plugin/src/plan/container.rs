//! What the bridge plugin wants in the container's network namespace: addresses and routes of the interface.

use kernel::{
    Family, IfName,
    route::{Address, Change, IfIndex, Link, LinkSettings, NextHop, Protocol, Route, RouteOptions},
};

use super::bridge::{PlanError, set_up};
use crate::model::{self, AddResult};

/// Settings of the container's interface, before it has addresses: key below `/proc/sys`, and value.
/// With `detect_duplicates` the kernel asks around for others with its IPv6 addresses before it uses them.
pub fn settings(
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
pub fn changes(
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::bridge::tests::{DUAL, result, texts, to};

    #[test]
    fn the_container_gets_addresses_then_goes_up_then_gets_routes() {
        let routes = [
            to("10.1.0.0/16", None),
            to("0.0.0.0/0", Some("10.1.17.9")),
            to("fd00::/48", None),
        ];
        let planned = changes(&result(&DUAL, &routes), IfIndex(2), false).unwrap();
        let texts = texts(&planned);
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
        let planned = changes(&result(&DUAL[..1], &other), IfIndex(2), false).unwrap();
        assert!(texts(&planned)[2].starts_with("ip route replace fd00::/48 dev if2"));
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
        let planned = changes(&result(&DUAL[..1], &routes), IfIndex(2), false).unwrap();
        let texts = texts(&planned);
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
        let planned = changes(&result(&DUAL, &[route.clone()]), IfIndex(2), false).unwrap();
        assert_eq!(
            texts(&planned)[3],
            "ip route replace 10.9.0.0/16 via 10.1.17.1 dev if2 table 100 metric 7 proto 3 scope 0 mtu 1300 advmss 1000"
        );
        route.scope = Some(256);
        let error = changes(&result(&DUAL, &[route]), IfIndex(2), false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "ipam.routes: scope 256 of the route to 10.9.0.0/16: want a number from 0 to 255"
        );
    }

    #[test]
    fn settings_are_those_of_the_families_in_use() {
        let keys = |addresses: &[(&str, &str)]| -> Vec<String> {
            settings(&result(addresses, &[]), &"eth0".parse().unwrap(), false)
                .into_iter()
                .map(|(key, _)| key)
                .collect()
        };
        assert_eq!(keys(&DUAL[..1]), ["net/ipv4/conf/eth0/arp_notify"]);
        assert!(keys(&DUAL).contains(&"net/ipv6/conf/eth0/accept_dad".to_owned()));
        assert!(keys(&[]).is_empty());
    }
}
