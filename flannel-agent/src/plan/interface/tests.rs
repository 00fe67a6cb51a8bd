//! Hosts and what is chosen there.

use kernel::route::{IfIndex, NextHop, Protocol, Route};

use super::*;
use crate::plan::sample;

fn link(index: u32, name: &str) -> Link {
    Link {
        mtu: 1500,
        ..sample::link(index, name, sample::other_kind())
    }
}

fn default_via(gateway: &str, interface: u32, metric: u32) -> Route {
    let gateway: IpAddr = gateway.parse().unwrap();
    let any = if gateway.is_ipv4() {
        "0.0.0.0/0"
    } else {
        "::/0"
    };
    let next_hop = NextHop::Gateway {
        gateway,
        interface: IfIndex(interface),
        onlink: false,
    };
    Route {
        metric,
        ..sample::route(any, next_hop, Protocol::BOOT)
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
    let error = choose_interface(&host(), &matching(&["^wl", "x$"]), &[Family::V4]).unwrap_err();
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
