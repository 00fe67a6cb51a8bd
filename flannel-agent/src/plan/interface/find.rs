//! The ways that lead to an interface.

use std::net::IpAddr;

use kernel::{
    Family,
    route::{Address, IfIndex, Link, Route},
};
use regex::bytes::Regex;

use super::{InterfaceSearch, NoInterface};
use crate::model::{ByFamily, Host};

pub(super) fn find<'a>(
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

pub(super) fn matches(pattern: &Regex, address: IpAddr) -> bool {
    pattern.is_match(address.to_string().as_bytes())
}

pub(super) fn is_of(address: &Address, link: &Link, family: Family) -> bool {
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

fn names(host: &Host) -> String {
    let names: Vec<_> = host.links.iter().map(|link| link.name.as_str()).collect();
    names.join(", ")
}
