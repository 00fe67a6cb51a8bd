//! The result of an ADD, in the form of the newest version; `report` turns it into older ones.

use std::net::IpAddr;

use kernel::{Family, Mac};
use serde::{Deserialize, Deserializer, Serialize};

use super::{Cidr, ip_text::optional_address, net_conf::null_is_default};

/// What an ADD made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AddResult {
    /// Interfaces, of the host and of the container.
    pub interfaces: Vec<Interface>,
    /// Addresses.
    pub ips: Vec<IpConfig>,
    /// Routes in the container.
    pub routes: Vec<Route>,
    /// Name servers for the container.
    pub dns: Dns,
}

/// An interface that an ADD made or used.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Interface {
    /// Its name.
    #[serde(default, deserialize_with = "null_is_default")]
    pub name: String,
    /// Its Ethernet address.
    #[serde(default, deserialize_with = "empty_is_none")]
    pub mac: Option<Mac>,
    /// Its MTU in bytes; 0 where nobody said it.
    #[serde(default, deserialize_with = "null_is_default")]
    pub mtu: u32,
    /// The path of the network namespace it is in; empty for the host's.
    #[serde(default, deserialize_with = "null_is_default")]
    pub sandbox: String,
    /// The path of its socket, for interfaces that are files (vhost-user); passed on as it came.
    #[serde(rename = "socketPath", default, deserialize_with = "null_is_default")]
    pub socket_path: String,
    /// The PCI address of its device; passed on as it came.
    #[serde(rename = "pciID", default, deserialize_with = "null_is_default")]
    pub pci_id: String,
}

/// An address of the container.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct IpConfig {
    /// The address with the prefix length of its subnet.
    pub address: Cidr,
    /// The gateway of the subnet, if it has one.
    #[serde(default, deserialize_with = "optional_address")]
    pub gateway: Option<IpAddr>,
    /// The index of its interface in [`AddResult::interfaces`]; `None` in the result of an IPAM plugin.
    #[serde(default)]
    pub interface: Option<u32>,
}

/// A route in the container. The fields are in the order in which Go prints them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// Where to.
    pub dst: Cidr,
    /// Through which gateway; that of the address where it is `None`.
    #[serde(
        default,
        deserialize_with = "optional_address",
        skip_serializing_if = "Option::is_none"
    )]
    pub gw: Option<IpAddr>,
    /// Path MTU in bytes.
    #[serde(
        default,
        deserialize_with = "zero_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub mtu: Option<u32>,
    /// TCP maximal segment size to advertise, in bytes.
    #[serde(
        default,
        deserialize_with = "zero_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub advmss: Option<u32>,
    /// Metric: the lower wins.
    #[serde(
        default,
        deserialize_with = "zero_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub priority: Option<u32>,
    /// Routing table; main where it is `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// `rtm_scope`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u32>,
}

/// Name servers for the container, passed on as they came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    nameservers: Vec<String>,
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    domain: String,
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    search: Vec<String>,
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    options: Vec<String>,
}

// === impl AddResult ===

impl AddResult {
    /// The gateway of the first address of a family.
    pub fn gateway(&self, family: Family) -> Option<IpAddr> {
        let mut gateways = self.ips.iter().filter_map(|ip| ip.gateway);
        gateways.find(|gateway| Family::of(gateway) == family)
    }

    /// The gateway that a route leads through: its own, or that of the first address.
    pub fn way(&self, route: &Route) -> Option<IpAddr> {
        route.gw.or_else(|| self.gateway(route.family()))
    }

    /// Whether it has an address of a family.
    pub fn has(&self, family: Family) -> bool {
        let mut ips = self.ips.iter();
        ips.any(|ip| Family::of_network(&ip.address.0) == family)
    }
}

// === impl Route ===

impl Route {
    /// A route in the main table, with everything else left open.
    pub fn new(dst: Cidr, gw: Option<IpAddr>) -> Self {
        Self {
            dst,
            gw,
            mtu: None,
            advmss: None,
            priority: None,
            table: None,
            scope: None,
        }
    }

    /// The family of its destination.
    pub fn family(&self) -> Family {
        Family::of_network(&self.dst.0)
    }
}

// === impl Dns ===

impl Dns {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What a `resolv.conf` says (resolv.conf(5)). As in host-local, several `search` and `options` lines add
    /// up, and anything else is left to others.
    pub fn of_resolv_conf(text: &str) -> Self {
        let mut dns = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace().map(str::to_owned);
            match words.next().as_deref() {
                Some("nameserver") => dns.nameservers.extend(words.next()),
                Some("domain") => dns.domain = words.next().unwrap_or(dns.domain),
                Some("search") => dns.search.extend(words),
                Some("options") => dns.options.extend(words),
                _ => {}
            }
        }
        dns
    }
}

/// For serde: a text that may be empty, as Go writes for what it does not know.
fn empty_is_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Mac>, D::Error> {
    match Option::<String>::deserialize(deserializer)?.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(serde::de::Error::custom),
    }
}

/// For serde: a number that Go does not tell from a missing one where it is zero.
fn zero_is_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let number = Option::deserialize(deserializer)?;
    Ok(number.filter(|number| *number != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolv_conf_is_read_line_by_line() {
        let dns = Dns::of_resolv_conf(
            "# nameserver 10.0.0.1\n; search no\n\n nameserver\t10.0.0.2 10.0.0.3\nnameserver fd00::1\n\
             domain example.org\ndomain\nsearch a b\nsearch c\noptions ndots:5\nsortlist 10.0.0.0\nnameserver\n",
        );
        let want = r#"{"nameservers":["10.0.0.2","fd00::1"],"domain":"example.org","search":["a","b","c"],"options":["ndots:5"]}"#;
        assert_eq!(serde_json::to_string(&dns).unwrap(), want);
        assert!(Dns::of_resolv_conf("").is_empty());
    }
}
