//! Which interface tunnelled packets use (spec 1.8).

mod find;

use std::net::IpAddr;

use kernel::{
    Family, IfName,
    route::{Address, Link},
};
use regex::bytes::Regex;

use find::{find, is_of, matches};

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

#[cfg(test)]
mod tests;
