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
    mtu: u32,
}

#[derive(Serialize)]
struct Ip100 {
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<u32>,
    address: Cidr,
    gateway: IpAddr,
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
    gateway: IpAddr,
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
