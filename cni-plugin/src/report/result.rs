//! The result of an ADD in the form of each version of the specification.

use std::net::IpAddr;

use kernel::{Family, Mac};
use serde::Serialize;
use serde_json::{Value, json};

use super::go_json;
use crate::model::{AddResult, Cidr, Code, Dns, Error, Interface, IpConfig, Route, SpecVersion};

/// 1.0.0 and 1.1.0. Go prints it with the keys in alphabetical order, by way of a map.
#[derive(Serialize)]
struct Result100<'a> {
    #[serde(rename = "cniVersion")]
    version: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    interfaces: Vec<Interface100<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ips: Vec<Ip100>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    routes: &'a [Route],
    #[serde(skip_serializing_if = "Dns::is_empty")]
    dns: &'a Dns,
}

#[derive(Serialize)]
struct Interface100<'a> {
    #[serde(flatten)]
    interface: Interface030<'a>,
    #[serde(skip_serializing_if = "is_zero")]
    mtu: u32,
    #[serde(rename = "socketPath", skip_serializing_if = "str::is_empty")]
    socket_path: &'a str,
    #[serde(rename = "pciID", skip_serializing_if = "str::is_empty")]
    pci_id: &'a str,
}

#[derive(Serialize)]
struct Ip100 {
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<u32>,
    address: Cidr,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
}

/// 0.3.0 to 0.4.0, in the order of Go's fields.
#[derive(Serialize)]
struct Result030<'a> {
    #[serde(rename = "cniVersion")]
    version: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    interfaces: Vec<Interface030<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ips: Vec<Ip030>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    routes: &'a [Route],
    dns: &'a Dns,
}

#[derive(Serialize)]
struct Interface030<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mac: Option<Mac>,
    #[serde(skip_serializing_if = "str::is_empty")]
    sandbox: &'a str,
}

#[derive(Serialize)]
struct Ip030 {
    version: &'static str,
    #[serde(flatten)]
    ip: Ip100,
}

/// 0.1.0 and 0.2.0: one address of each family.
#[derive(Serialize)]
struct Result010<'a> {
    #[serde(rename = "cniVersion")]
    version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip4: Option<Ip010>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip6: Option<Ip010>,
    dns: &'a Dns,
}

#[derive(Serialize)]
struct Ip010 {
    ip: Cidr,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    routes: Vec<Route>,
}

/// The result as text.
///
/// # Errors
/// If the version has no form for it: before 0.3.0 there has to be an address.
pub fn result(result: &AddResult, version: SpecVersion) -> Result<String, Error> {
    let json = if version >= SpecVersion::V1_0_0 {
        let mut json = json!(Result100::new(result, version));
        json.sort_all_objects();
        json
    } else if version >= SpecVersion::V0_3_0 {
        json!(Result030::new(result, version))
    } else {
        result_010(result, version)?
    };
    Ok(go_json::pretty(&json))
}

fn result_010(result: &AddResult, version: SpecVersion) -> Result<Value, Error> {
    if result.ips.is_empty() {
        return Err(Error::new(
            Code::Internal,
            "cannot convert: no valid IP addresses",
        ));
    }
    Ok(json!(Result010 {
        version: version.as_str(),
        ip4: Ip010::first_of(Family::V4, result),
        ip6: Ip010::first_of(Family::V6, result),
        dns: &result.dns,
    }))
}

// === impl Result100 ===

impl<'a> Result100<'a> {
    fn new(result: &'a AddResult, version: SpecVersion) -> Self {
        Self {
            version: version.as_str(),
            interfaces: result.interfaces.iter().map(Interface100::new).collect(),
            ips: result.ips.iter().map(Ip100::new).collect(),
            routes: &result.routes,
            dns: &result.dns,
        }
    }
}

impl<'a> Interface100<'a> {
    fn new(interface: &'a Interface) -> Self {
        Self {
            interface: Interface030::new(interface),
            mtu: interface.mtu,
            socket_path: &interface.socket_path,
            pci_id: &interface.pci_id,
        }
    }
}

impl Ip100 {
    fn new(ip: &IpConfig) -> Self {
        Self {
            interface: ip.interface,
            address: ip.address,
            gateway: ip.gateway,
        }
    }
}

// === impl Result030 ===

impl<'a> Result030<'a> {
    fn new(result: &'a AddResult, version: SpecVersion) -> Self {
        Self {
            version: version.as_str(),
            interfaces: result.interfaces.iter().map(Interface030::new).collect(),
            ips: result.ips.iter().map(Ip030::new).collect(),
            routes: &result.routes,
            dns: &result.dns,
        }
    }
}

impl<'a> Interface030<'a> {
    fn new(interface: &'a Interface) -> Self {
        Self {
            name: &interface.name,
            mac: interface.mac,
            sandbox: &interface.sandbox,
        }
    }
}

impl Ip030 {
    fn new(ip: &IpConfig) -> Self {
        Self {
            version: match Family::of_network(&ip.address.0) {
                Family::V4 => "4",
                Family::V6 => "6",
            },
            ip: Ip100::new(ip),
        }
    }
}

// === impl Ip010 ===

impl Ip010 {
    fn first_of(family: Family, result: &AddResult) -> Option<Self> {
        let mut ips = result.ips.iter();
        let ip = ips.find(|ip| Family::of_network(&ip.address.0) == family)?;
        let routes = result.routes.iter().filter(|it| it.family() == family);
        Some(Self {
            ip: ip.address,
            gateway: ip.gateway,
            routes: routes.map(|it| Route::new(it.dst, it.gw)).collect(),
        })
    }
}

/// For serde: Go leaves out numbers that say nothing.
#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it by reference"
)]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> AddResult {
        let interface = |name: &str, mac: &str, sandbox: &str| Interface {
            name: name.into(),
            mac: Some(mac.parse().unwrap()),
            mtu: 1450,
            sandbox: sandbox.into(),
            ..Interface::default()
        };
        let ip = |address: &str, gateway: &str| IpConfig {
            address: address.parse().unwrap(),
            gateway: gateway.parse().ok(),
            interface: Some(2),
        };
        let route = |dst: &str, gw: Option<&str>| {
            Route::new(dst.parse().unwrap(), gw.map(|gw| gw.parse().unwrap()))
        };
        let mut metric = route("fd00::/48", None);
        metric.priority = Some(7);
        AddResult {
            interfaces: vec![
                interface("cni0", "0a:58:0a:01:11:01", ""),
                interface("eth0", "02:00:00:00:00:02", "/run/netns/c"),
            ],
            ips: vec![
                ip("10.1.17.2/24", "10.1.17.1"),
                ip("10.1.18.2/24", "10.1.18.1"),
                ip("fd00::2/64", "fd00::1"),
            ],
            routes: vec![route("10.1.0.0/16", Some("10.1.17.9")), metric],
            dns: Dns::default(),
        }
    }

    /// The text on one line, with nothing else changed: the indentation is `go_json`'s.
    fn printed(sample: &AddResult, version: SpecVersion) -> String {
        let text = result(sample, version).unwrap();
        text.lines().map(str::trim_start).collect()
    }

    #[test]
    fn each_version_has_its_keys_in_the_order_of_go() {
        let sample = sample();
        for (version, want) in [
            (
                SpecVersion::V1_1_0,
                r#"{"cniVersion": "1.1.0","interfaces": [{"mac": "0a:58:0a:01:11:01","mtu": 1450,"name": "cni0"},{"mac": "02:00:00:00:00:02","mtu": 1450,"name": "eth0","sandbox": "/run/netns/c"}],"ips": [{"address": "10.1.17.2/24","gateway": "10.1.17.1","interface": 2},{"address": "10.1.18.2/24","gateway": "10.1.18.1","interface": 2},{"address": "fd00::2/64","gateway": "fd00::1","interface": 2}],"routes": [{"dst": "10.1.0.0/16","gw": "10.1.17.9"},{"dst": "fd00::/48","priority": 7}]}"#,
            ),
            (
                SpecVersion::V0_4_0,
                r#"{"cniVersion": "0.4.0","interfaces": [{"name": "cni0","mac": "0a:58:0a:01:11:01"},{"name": "eth0","mac": "02:00:00:00:00:02","sandbox": "/run/netns/c"}],"ips": [{"version": "4","interface": 2,"address": "10.1.17.2/24","gateway": "10.1.17.1"},{"version": "4","interface": 2,"address": "10.1.18.2/24","gateway": "10.1.18.1"},{"version": "6","interface": 2,"address": "fd00::2/64","gateway": "fd00::1"}],"routes": [{"dst": "10.1.0.0/16","gw": "10.1.17.9"},{"dst": "fd00::/48","priority": 7}],"dns": {}}"#,
            ),
            (
                SpecVersion::V0_2_0,
                r#"{"cniVersion": "0.2.0","ip4": {"ip": "10.1.17.2/24","gateway": "10.1.17.1","routes": [{"dst": "10.1.0.0/16","gw": "10.1.17.9"}]},"ip6": {"ip": "fd00::2/64","gateway": "fd00::1","routes": [{"dst": "fd00::/48"}]},"dns": {}}"#,
            ),
        ] {
            assert_eq!(printed(&sample, version), want);
        }
    }

    #[test]
    fn versions_of_one_form_differ_in_their_name_alone() {
        use SpecVersion as V;
        for (one, other) in [
            (V::V1_1_0, V::V1_0_0),
            (V::V0_4_0, V::V0_3_1),
            (V::V0_4_0, V::V0_3_0),
            (V::V0_2_0, V::V0_1_0),
        ] {
            let renamed = printed(&sample(), one).replace(one.as_str(), other.as_str());
            assert_eq!(printed(&sample(), other), renamed);
        }
    }

    #[test]
    fn what_is_empty_is_left_out_but_dns_where_it_always_was() {
        let empty = AddResult::default();
        assert_eq!(
            printed(&empty, SpecVersion::V1_0_0),
            r#"{"cniVersion": "1.0.0"}"#
        );
        assert_eq!(
            printed(&empty, SpecVersion::V0_3_1),
            r#"{"cniVersion": "0.3.1","dns": {}}"#
        );
        let error = result(&empty, SpecVersion::V0_1_0).unwrap_err();
        assert_eq!(error.message, "cannot convert: no valid IP addresses");
    }

    #[test]
    fn name_servers_are_printed_in_every_version() {
        let with_dns = AddResult {
            dns: serde_json::from_str(r#"{"domain": "a.b", "nameservers": ["10.0.0.10"]}"#)
                .unwrap(),
            ..sample()
        };
        for (version, want) in [
            (
                SpecVersion::V1_1_0,
                r#""dns": {"domain": "a.b","nameservers": ["10.0.0.10"]}"#,
            ),
            (
                SpecVersion::V0_1_0,
                r#""dns": {"nameservers": ["10.0.0.10"],"domain": "a.b"}"#,
            ),
        ] {
            let text = printed(&with_dns, version);
            assert!(text.contains(want), "{text}");
        }
    }
}
