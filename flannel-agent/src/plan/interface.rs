//! Which interface tunnelled packets use (spec 1.8).

use std::net::IpAddr;

use kernel::{
    Family, IfName,
    route::{Address, IfIndex, Link, Route},
};
use regex::bytes::Regex;

use crate::model::{ByFamily, Host, Underlay};

/// How to find the external interface: by the first of these ways that leads to one.
#[derive(Clone, Debug, Default)]
pub struct InterfaceSearch {
    /// `--iface`: addresses or names.
    pub wanted: Vec<String>,
    /// `--iface-regex`: each is compared with the addresses of all interfaces first, then with names.
    pub patterns: Vec<Regex>,
    /// `--iface-can-reach`.
    pub reach: Option<Reach>,
    /// The addresses that peers send to where they are not the interface's own.
    pub public: ByFamily<IpAddr>,
}

/// An address that packets are to reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The address.
    pub address: IpAddr,
    /// The interface by which packets to it leave, if any do.
    pub by: Option<IfName>,
}

/// Why no interface can be chosen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoInterface {
    /// None of the wanted ones is there.
    #[error("--iface: no interface has the name or address {0}; the node has {1}")]
    NotFound(String, String),
    /// No interface matches.
    #[error("--iface-regex: could not match pattern {0} to any of the node's interfaces ({1})")]
    NoMatch(String, String),
    /// No packet would get there.
    #[error("--iface-can-reach: no route of the node leads to {0}")]
    Unreachable(IpAddr),
    /// The one that was chosen is not there any more.
    #[error("interface {0}, which the overlay stands on, is gone; waiting until it is back")]
    Gone(IfName),
    /// Nothing says which one.
    #[error(
        "there is no default route to choose the interface by; name it with --iface (the node has {0})"
    )]
    NoDefaultRoute(String),
    /// The default routes of the families are not on one interface.
    #[error(
        "v6 default route interface {v6} must be the same with v4 default route interface {v4}; \
         name one with --iface"
    )]
    TwoDefaultRoutes {
        /// That of IPv4.
        v4: IfName,
        /// That of IPv6.
        v6: IfName,
    },
    /// The chosen one has no address of a family that the network has.
    #[error("interface {0} has no {1} address; give it one or choose another with --iface")]
    NoAddress(IfName, Family),
    /// The chosen one has no MTU.
    #[error("failed to determine MTU for {0} interface")]
    NoMtu(String),
}

/// Chooses an interface with an address of each of the `families`.
///
/// Where nothing is asked for, it is the one with a public address, or else that of the default route with
/// the lowest metric.
pub fn choose_interface(
    host: &Host,
    search: &InterfaceSearch,
    families: &[Family],
) -> Result<Underlay, NoInterface> {
    underlay(host, find(host, search, families)?, search, families)
}

/// Whether there is an interface to choose, as far as can be told before the families are known.
pub fn check_interface(host: &Host, search: &InterfaceSearch) -> Result<(), NoInterface> {
    find(host, search, &[Family::V4])
        .or_else(|error| find(host, search, &[Family::V6]).map_err(|_| error))
        .map(drop)
}

/// What has become of an interface that was chosen before: it may have another index, MTU or address.
pub fn follow_interface(
    host: &Host,
    name: &IfName,
    search: &InterfaceSearch,
    families: &[Family],
) -> Result<Underlay, NoInterface> {
    let link = host.links.iter().find(|link| link.name == *name);
    let link = link.ok_or_else(|| NoInterface::Gone(name.clone()))?;
    underlay(host, link, search, families)
}

fn underlay(
    host: &Host,
    link: &Link,
    search: &InterfaceSearch,
    families: &[Family],
) -> Result<Underlay, NoInterface> {
    let addresses = addresses(host, link, search);
    if let Some(missing) = families.iter().find(|it| addresses.get(**it).is_none()) {
        return Err(NoInterface::NoAddress(link.name.clone(), *missing));
    }
    if link.mtu == 0 {
        return Err(NoInterface::NoMtu(link.name.to_string()));
    }
    let mut reached_by = addresses;
    for (family, address) in search.public.iter() {
        reached_by.insert(family, *address);
    }
    Ok(Underlay {
        name: link.name.clone(),
        interface: link.index,
        mtu: link.mtu,
        addresses,
        public: reached_by,
    })
}

fn find<'a>(
    host: &'a Host,
    search: &InterfaceSearch,
    families: &[Family],
) -> Result<&'a Link, NoInterface> {
    let InterfaceSearch {
        wanted,
        patterns,
        reach,
        public,
    } = search;
    if wanted.is_empty() && patterns.is_empty() && reach.is_none() {
        return match owner(host, public) {
            Some(link) => Ok(link),
            None => of_default_route(host, families),
        };
    }
    let reachable = || {
        let name = reach.as_ref()?.by.as_ref()?;
        host.links.iter().find(|link| link.name == *name)
    };
    wanted
        .iter()
        .find_map(|wanted| named(host, wanted))
        .or_else(|| patterns.iter().find_map(|it| matching(host, it, families)))
        .or_else(reachable)
        .ok_or_else(|| not_found(host, search))
}

fn not_found(host: &Host, search: &InterfaceSearch) -> NoInterface {
    if let Some(reach) = &search.reach {
        return NoInterface::Unreachable(reach.address);
    }
    if search.patterns.is_empty() {
        return NoInterface::NotFound(search.wanted.join(" or "), names(host));
    }
    let patterns: Vec<_> = search.patterns.iter().map(Regex::as_str).collect();
    NoInterface::NoMatch(patterns.join(" or "), names(host))
}

fn named<'a>(host: &'a Host, wanted: &str) -> Option<&'a Link> {
    match wanted.parse() {
        Ok(address) => with_address(host, address),
        Err(_) => host.links.iter().find(|link| link.name.as_str() == wanted),
    }
}

/// The first interface that has a matching address of each family, or else that has a matching name.
fn matching<'a>(host: &'a Host, pattern: &Regex, families: &[Family]) -> Option<&'a Link> {
    let has_address = |link: &&Link| {
        let has = |family| {
            let mut addresses = host.addresses.iter();
            addresses.any(|it| is_of(it, link, family) && matches(pattern, it.address.ip()))
        };
        families.iter().all(|family| has(*family))
    };
    let by_name = |link: &&Link| pattern.is_match(link.name.as_str().as_bytes());
    let mut links = host.links.iter();
    links
        .find(has_address)
        .or_else(|| host.links.iter().find(by_name))
}

fn matches(pattern: &Regex, address: IpAddr) -> bool {
    pattern.is_match(address.to_string().as_bytes())
}

fn is_of(address: &Address, link: &Link, family: Family) -> bool {
    address.interface == link.index && Family::of_network(&address.address) == family
}

fn owner<'a>(host: &'a Host, public: &ByFamily<IpAddr>) -> Option<&'a Link> {
    public
        .iter()
        .find_map(|(_, address)| with_address(host, *address))
}

fn with_address(host: &Host, address: IpAddr) -> Option<&Link> {
    let owner = host
        .addresses
        .iter()
        .find(|own| own.address.ip() == address)?;
    with_index(host, owner.interface)
}

fn with_index(host: &Host, index: IfIndex) -> Option<&Link> {
    host.links.iter().find(|link| link.index == index)
}

/// The interface of the best default route. A family without one follows the other.
fn of_default_route<'a>(host: &'a Host, families: &[Family]) -> Result<&'a Link, NoInterface> {
    let of = |family| {
        families
            .contains(&family)
            .then(|| default_route(host, family))?
    };
    match (of(Family::V4), of(Family::V6)) {
        (Some(v4), Some(v6)) if v4.index != v6.index => Err(NoInterface::TwoDefaultRoutes {
            v4: v4.name.clone(),
            v6: v6.name.clone(),
        }),
        (v4, v6) => v4
            .or(v6)
            .ok_or_else(|| NoInterface::NoDefaultRoute(names(host))),
    }
}

/// The interface of the default route of a family with the lowest metric.
fn default_route(host: &Host, family: Family) -> Option<&Link> {
    host.routes
        .iter()
        .filter(|route| route.destination.prefix() == 0 && route.table == Route::MAIN)
        .filter(|route| Family::of_network(&route.destination) == family)
        .filter_map(|route| Some((route, with_index(host, route.interface()?)?)))
        .min_by_key(|(route, _)| route.metric)
        .map(|(_, link)| link)
}

/// The address of each family that is asked for, by itself or by a pattern, or else the one that is the most
/// lasting and the furthest reaching.
fn addresses(host: &Host, link: &Link, search: &InterfaceSearch) -> ByFamily<IpAddr> {
    let rank = |address: &&Address| {
        let ip = address.address.ip();
        let is_wanted = search.public.iter().any(|(_, public)| *public == ip)
            || search.wanted.iter().any(|wanted| wanted.parse() == Ok(ip));
        let is_matched = search.patterns.iter().any(|it| matches(it, ip));
        (
            !is_wanted,
            !is_matched,
            address.link_local,
            !address.permanent,
        )
    };
    let best = |family| {
        host.addresses
            .iter()
            .filter(|address| is_of(address, link, family))
            // Peers could not say on which of their links a link-local IPv6 address is.
            .filter(|address| !(address.link_local && family == Family::V6))
            .min_by_key(rank)
            .map(|address| (family, address.address.ip()))
    };
    Family::ALL.into_iter().filter_map(best).collect()
}

fn names(host: &Host) -> String {
    let names: Vec<_> = host.links.iter().map(|link| link.name.as_str()).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use kernel::route::{LinkKind, NextHop, Protocol};

    use super::*;

    fn link(index: u32, name: &str) -> Link {
        Link {
            index: IfIndex(index),
            name: name.parse().unwrap(),
            mac: None,
            mtu: 1500,
            up: true,
            carrier: true,
            loopback: false,
            master: None,
            parent: None,
            kind: LinkKind::Other(String::new()),
            hairpin: None,
        }
    }

    fn default_via(gateway: &str, interface: u32, metric: u32) -> Route {
        let gateway: IpAddr = gateway.parse().unwrap();
        let any = if gateway.is_ipv4() {
            "0.0.0.0/0"
        } else {
            "::/0"
        };
        Route {
            destination: any.parse().unwrap(),
            next_hop: NextHop::Gateway {
                gateway,
                interface: IfIndex(interface),
                onlink: false,
            },
            protocol: Protocol::BOOT,
            table: Route::MAIN,
            metric,
            source: None,
        }
    }

    fn address(interface: u32, text: &str) -> Address {
        Address::global(IfIndex(interface), text.parse().unwrap())
    }

    fn host() -> Host {
        Host {
            links: vec![
                link(1, "lo"),
                link(2, "eth0"),
                link(3, "eth1"),
                link(4, "bare"),
            ],
            addresses: vec![
                Address {
                    link_local: true,
                    ..address(2, "169.254.1.1/16")
                },
                Address {
                    permanent: false,
                    ..address(2, "192.168.1.9/24")
                },
                address(2, "192.168.1.2/24"),
                address(2, "192.168.1.3/24"),
                address(2, "fd00::2/64"),
                address(3, "192.168.2.2/24"),
                Address {
                    link_local: true,
                    ..address(3, "fe80::3/64")
                },
            ],
            routes: vec![
                default_via("fd00::1", 2, 0),
                default_via("192.168.1.1", 2, 200),
                default_via("192.168.2.1", 3, 100),
            ],
        }
    }

    fn search(wanted: &[&str], public: &str) -> InterfaceSearch {
        let public = public
            .parse()
            .ok()
            .map(|address| (Family::of(&address), address));
        InterfaceSearch {
            wanted: wanted.iter().map(|&text| text.to_owned()).collect(),
            public: public.into_iter().collect(),
            ..InterfaceSearch::default()
        }
    }

    fn matching(patterns: &[&str]) -> InterfaceSearch {
        InterfaceSearch {
            patterns: patterns.iter().map(|it| Regex::new(it).unwrap()).collect(),
            ..InterfaceSearch::default()
        }
    }

    /// The name, the address used and the public address of what is found, for one family.
    fn found(
        host: &Host,
        search: &InterfaceSearch,
        family: Family,
    ) -> Result<(String, String, String), String> {
        let chosen = choose_interface(host, search, &[family]);
        let text = |address: Option<&IpAddr>| address.map_or_else(String::new, IpAddr::to_string);
        chosen
            .map(|it| {
                let used = text(it.addresses.get(family));
                (it.name.to_string(), used, text(it.public.get(family)))
            })
            .map_err(|error| error.to_string())
    }

    fn choose(wanted: &[&str], public: &str) -> Result<(String, String, String), String> {
        found(&host(), &search(wanted, public), Family::V4)
    }

    #[test]
    fn chooses_as_told() {
        for (wanted, public, name, used, reached_by) in [
            (&[][..], "", "eth1", "192.168.2.2", "192.168.2.2"),
            (&["eth0"], "", "eth0", "192.168.1.2", "192.168.1.2"),
            (&["192.168.1.3"], "", "eth0", "192.168.1.3", "192.168.1.3"),
            (&["fd00::2"], "", "eth0", "192.168.1.2", "192.168.1.2"),
            (&["eth9", "eth1"], "", "eth1", "192.168.2.2", "192.168.2.2"),
            (&[], "192.168.1.2", "eth0", "192.168.1.2", "192.168.1.2"),
            (&[], "192.168.1.3", "eth0", "192.168.1.3", "192.168.1.3"),
            (&[], "203.0.113.7", "eth1", "192.168.2.2", "203.0.113.7"),
            (
                &["eth0"],
                "203.0.113.7",
                "eth0",
                "192.168.1.2",
                "203.0.113.7",
            ),
        ] {
            let expected = (name.to_owned(), used.to_owned(), reached_by.to_owned());
            assert_eq!(choose(wanted, public), Ok(expected), "{wanted:?} {public}");
        }
    }

    #[test]
    fn link_local_ipv6_addresses_are_no_use() {
        let chosen =
            |name: &str| choose_interface(&host(), &search(&[name], ""), &[Family::V4]).unwrap();
        assert_eq!(
            chosen("eth0").addresses.get(Family::V6),
            Some(&"fd00::2".parse().unwrap())
        );
        assert_eq!(chosen("eth1").addresses.get(Family::V6), None);
    }

    #[test]
    fn errors_say_what_there_is() {
        assert_eq!(
            choose(&["eth8", "10.0.0.1"], "").unwrap_err(),
            "--iface: no interface has the name or address eth8 or 10.0.0.1; the node has lo, eth0, eth1, bare"
        );
        assert!(
            choose(&["bare"], "")
                .unwrap_err()
                .starts_with("interface bare has no IPv4 address")
        );
        let routeless = Host {
            routes: Vec::new(),
            ..host()
        };
        let error = check_interface(&routeless, &search(&[], "")).unwrap_err();
        assert!(matches!(error, NoInterface::NoDefaultRoute(_)));
        let error = choose_interface(&host(), &search(&["eth1"], ""), &Family::ALL).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("interface eth1 has no IPv6 address")
        );
        let error =
            choose_interface(&host(), &matching(&["^wl", "x$"]), &[Family::V4]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "--iface-regex: could not match pattern ^wl or x$ to any of the node's interfaces (lo, eth0, eth1, bare)"
        );
    }

    #[test]
    fn patterns_match_addresses_of_all_interfaces_before_names() {
        for (patterns, family, name, used) in [
            // The name of eth0 matches as well, but so does an address.
            (
                &[r"^192\.168\.2\.|eth0"][..],
                Family::V4,
                "eth1",
                "192.168.2.2",
            ),
            (&[r"\.3$"], Family::V4, "eth0", "192.168.1.3"),
            (&["^eth[0-9]$"], Family::V4, "eth0", "192.168.1.2"),
            (&["nothing", "eth1"], Family::V4, "eth1", "192.168.2.2"),
            (&["^fd00"], Family::V6, "eth0", "fd00::2"),
        ] {
            let expected = Ok((name.to_owned(), used.to_owned(), used.to_owned()));
            assert_eq!(
                found(&host(), &matching(patterns), family),
                expected,
                "{patterns:?}"
            );
        }
    }

    #[test]
    fn ways_are_tried_in_flannels_order() {
        let name = |wanted: &[&str], patterns: &[&str], by: &str| {
            let search = InterfaceSearch {
                wanted: wanted.iter().map(|&text| text.to_owned()).collect(),
                reach: Some(Reach {
                    address: [192, 0, 2, 1].into(),
                    by: by.parse().ok(),
                }),
                ..matching(patterns)
            };
            found(&host(), &search, Family::V4).map(|(name, ..)| name)
        };
        assert_eq!(name(&["eth0"], &["eth1"], "eth1").as_deref(), Ok("eth0"));
        assert_eq!(name(&["eth9"], &["eth0"], "eth1").as_deref(), Ok("eth0"));
        assert_eq!(name(&["eth9"], &["^wl"], "eth1").as_deref(), Ok("eth1"));
        assert_eq!(
            name(&["eth9"], &[], "").unwrap_err(),
            "--iface-can-reach: no route of the node leads to 192.0.2.1"
        );
    }

    #[test]
    fn dual_stack_has_both_default_routes_on_one_interface() {
        let none = InterfaceSearch::default();
        assert_eq!(
            choose_interface(&host(), &none, &Family::ALL)
                .unwrap_err()
                .to_string(),
            "v6 default route interface eth0 must be the same with v4 default route interface eth1; name one with --iface"
        );
        assert!(check_interface(&host(), &none).is_ok());
        assert_eq!(found(&host(), &none, Family::V6).unwrap().0, "eth0");
        let chosen = choose_interface(&host(), &search(&["eth0"], ""), &Family::ALL).unwrap();
        assert_eq!(chosen.addresses.iter().count(), 2);
        let one_family = Host {
            routes: vec![default_via("192.168.1.1", 2, 0)],
            ..host()
        };
        let chosen = choose_interface(&one_family, &none, &Family::ALL).unwrap();
        assert_eq!(chosen.name.as_str(), "eth0");
    }
}
