//! Which interface tunnelled packets use (spec 1.8).

use std::net::IpAddr;

use kernel::{
    Family, IfName,
    route::{Address, IfIndex, Link, Route},
};

use crate::model::{ByFamily, Host, Underlay};

/// Why no interface can be chosen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoInterface {
    /// None of the wanted ones is there.
    #[error("--iface: no interface has the name or address {0}; the node has {1}")]
    NotFound(String, String),
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
    /// The chosen one has no IPv4 address.
    #[error("interface {0} has no IPv4 address; give it one or choose another with --iface")]
    NoAddress(String),
    /// The chosen one has no MTU.
    #[error("failed to determine MTU for {0} interface")]
    NoMtu(String),
}

/// Chooses: the first of the `wanted` (an address, or else a name) that is there; or else the one with a
/// `public` address; or else that of the default route with the lowest metric.
///
/// `public` are the addresses that peers send to where they are not the interface's own.
pub fn choose_interface(
    host: &Host,
    wanted: &[String],
    public: &ByFamily<IpAddr>,
) -> Result<Underlay, NoInterface> {
    let link = if wanted.is_empty() {
        owner(host, public)
            .or_else(|| default_route(host))
            .ok_or_else(|| NoInterface::NoDefaultRoute(names(host)))?
    } else {
        wanted
            .iter()
            .find_map(|wanted| named(host, wanted))
            .ok_or_else(|| NoInterface::NotFound(wanted.join(" or "), names(host)))?
    };
    underlay(host, link, wanted, public)
}

/// What has become of an interface that was chosen before: it may have another index, MTU or address.
pub fn follow_interface(
    host: &Host,
    name: &IfName,
    wanted: &[String],
    public: &ByFamily<IpAddr>,
) -> Result<Underlay, NoInterface> {
    let link = host.links.iter().find(|link| link.name == *name);
    let link = link.ok_or_else(|| NoInterface::Gone(name.clone()))?;
    underlay(host, link, wanted, public)
}

fn underlay(
    host: &Host,
    link: &Link,
    wanted: &[String],
    public: &ByFamily<IpAddr>,
) -> Result<Underlay, NoInterface> {
    let addresses = addresses(host, link, wanted, public);
    if addresses.get(Family::V4).is_none() {
        return Err(NoInterface::NoAddress(link.name.to_string()));
    }
    if link.mtu == 0 {
        return Err(NoInterface::NoMtu(link.name.to_string()));
    }
    let mut reached_by = addresses;
    for (family, address) in public.iter() {
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

fn named<'a>(host: &'a Host, wanted: &str) -> Option<&'a Link> {
    match wanted.parse() {
        Ok(address) => with_address(host, address),
        Err(_) => host.links.iter().find(|link| link.name.as_str() == wanted),
    }
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

/// The interface of the best default route: IPv4 before IPv6, then by metric.
fn default_route(host: &Host) -> Option<&Link> {
    host.routes
        .iter()
        .filter(|route| route.destination.prefix() == 0 && route.table == Route::MAIN)
        .filter_map(|route| Some((route, with_index(host, route.interface()?)?)))
        .min_by_key(|(route, _)| (route.destination.is_ipv6(), route.metric))
        .map(|(_, link)| link)
}

/// The address of each family that is the most lasting and the furthest reaching, unless one is named.
fn addresses(
    host: &Host,
    link: &Link,
    wanted: &[String],
    public: &ByFamily<IpAddr>,
) -> ByFamily<IpAddr> {
    let rank = |address: &&Address| {
        let ip = address.address.ip();
        let is_wanted = public.iter().any(|(_, public)| *public == ip)
            || wanted.iter().any(|wanted| wanted.parse() == Ok(ip));
        (!is_wanted, address.link_local, !address.permanent)
    };
    let best = |family| {
        host.addresses
            .iter()
            .filter(|address| address.interface == link.index)
            .filter(|address| Family::of_network(&address.address) == family)
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

    fn choose(wanted: &[&str], public: &str) -> Result<(String, String, String), String> {
        let wanted: Vec<_> = wanted.iter().map(|&text| text.to_owned()).collect();
        let public = public
            .parse()
            .ok()
            .map(|address| (Family::of(&address), address));
        let chosen = choose_interface(&host(), &wanted, &public.into_iter().collect());
        let text = |address: Option<&IpAddr>| address.map_or_else(String::new, IpAddr::to_string);
        chosen
            .map(|it| {
                let used = text(it.addresses.get(Family::V4));
                (it.name.to_string(), used, text(it.public.get(Family::V4)))
            })
            .map_err(|error| error.to_string())
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
        let chosen = |name: &str| {
            choose_interface(&host(), &[name.to_owned()], &ByFamily::default()).unwrap()
        };
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
        let error = choose_interface(&routeless, &[], &ByFamily::default()).unwrap_err();
        assert!(matches!(error, NoInterface::NoDefaultRoute(_)));
    }
}
