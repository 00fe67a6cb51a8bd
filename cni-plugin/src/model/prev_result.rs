//! `prevResult`: what the plugins before this one made, in the form of each version of the specification.

use serde::Deserialize;
use serde_json::Value;

use super::{
    AddResult, Cidr, Code, Dns, Error, Interface, IpConfig, Route, SpecVersion,
    ip_text::optional_address, net_conf::null_is_default,
};

/// The form of 0.3.0 and later. What later versions added is missing in earlier ones.
#[derive(Deserialize)]
struct Result030 {
    #[serde(default, deserialize_with = "null_is_default")]
    interfaces: Vec<Interface>,
    #[serde(default, deserialize_with = "null_is_default")]
    ips: Vec<IpConfig>,
    #[serde(default, deserialize_with = "null_is_default")]
    routes: Vec<Route>,
    #[serde(default, deserialize_with = "null_is_default")]
    dns: Dns,
}

/// The form of 0.1.0 and 0.2.0: one address of each family.
#[derive(Deserialize)]
struct Result010 {
    #[serde(default)]
    ip4: Option<Ip010>,
    #[serde(default)]
    ip6: Option<Ip010>,
    #[serde(default, deserialize_with = "null_is_default")]
    dns: Dns,
}

#[derive(Deserialize)]
struct Ip010 {
    ip: Cidr,
    #[serde(default, deserialize_with = "optional_address")]
    gateway: Option<std::net::IpAddr>,
    #[serde(default, deserialize_with = "null_is_default")]
    routes: Vec<Route>,
}

// === impl AddResult ===

impl AddResult {
    /// Reads a result that a plugin printed for a configuration of `version`.
    ///
    /// # Errors
    /// If a value has the wrong type; the error names its key, which stands in `what`.
    pub fn parse(json: &Value, version: SpecVersion, what: &str) -> Result<Self, Error> {
        let parsed = if version >= SpecVersion::V0_3_0 {
            serde_path_to_error::deserialize(json).map(|read: Result030| read.into())
        } else {
            serde_path_to_error::deserialize(json).map(|read: Result010| read.into())
        };
        parsed.map_err(|error| Error::new(Code::Decode, format!("could not parse {what}: {error}")))
    }
}

impl From<Result030> for AddResult {
    fn from(read: Result030) -> Self {
        Self {
            interfaces: read.interfaces,
            ips: read.ips,
            routes: read.routes,
            dns: read.dns,
        }
    }
}

impl From<Result010> for AddResult {
    fn from(read: Result010) -> Self {
        let mut result = Self {
            dns: read.dns,
            ..Self::default()
        };
        for ip in [read.ip4, read.ip6].into_iter().flatten() {
            result.ips.push(IpConfig {
                address: ip.ip,
                gateway: ip.gateway,
                interface: None,
            });
            result.routes.extend(ip.routes);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::report;

    #[test]
    fn what_is_printed_is_read_in_every_version() {
        let result = AddResult::parse(
            &json!({
                "interfaces": [{"name": "eth0", "mac": "02:00:00:00:00:01", "mtu": 1450, "sandbox": "/n", "pciID": "0000:00:1f.6"}],
                "ips": [{"address": "10.1.2.3/24", "gateway": "10.1.2.1", "interface": 0}, {"address": "fd00::2/64"}],
                "routes": [{"dst": "10.0.0.0/8", "gw": "10.1.2.9"}, {"dst": "fd00::/48"}],
                "dns": {"nameservers": ["10.0.0.10"]},
            }),
            SpecVersion::V1_1_0,
            "prevResult",
        )
        .unwrap();
        for version in SpecVersion::ALL {
            let text = report::result(&result, version).unwrap();
            let json = serde_json::from_str(&text).unwrap();
            let read = AddResult::parse(&json, version, "prevResult").unwrap();
            assert_eq!(report::result(&read, version).unwrap(), text);
            assert_eq!(read.routes, result.routes);
            assert_eq!(read.ips[1].gateway, None);
        }
    }

    #[test]
    fn a_wrong_value_is_named() {
        for (json, version, message) in [
            (
                json!({"ips": [{"address": "10.1.2.3"}]}),
                SpecVersion::V1_0_0,
                "could not parse prevResult: ips[0].address: invalid CIDR address: 10.1.2.3",
            ),
            (
                json!({"ip4": {"ip": 5}}),
                SpecVersion::V0_2_0,
                "could not parse prevResult: ip4.ip: invalid type: integer `5`, expected a string",
            ),
        ] {
            let error = AddResult::parse(&json, version, "prevResult").unwrap_err();
            assert_eq!((error.code, &*error.message), (Code::Decode, message));
        }
    }
}
