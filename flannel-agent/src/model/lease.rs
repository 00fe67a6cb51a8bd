//! The value of a lease in etcd (spec 1.4): what a node tells the others about itself.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use kernel::{Family, Mac, Vni, wireguard::PublicKey};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{ByFamily, InvalidLeaseKey, LeaseKey, go_json};

/// How long a lease lasts after it was written.
pub const LEASE_TTL: Duration = Duration::from_secs(86_400);

/// How much of a faulty value an error shows, in characters.
const SHOWN: usize = 200;

/// A lease of another node or of this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The leased subnets.
    pub key: LeaseKey,
    /// Who has them.
    pub attributes: Attributes,
}

/// What a lease says about its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// The node's addresses in the underlay, of the families that it has subnets of.
    pub public: ByFamily<IpAddr>,
    /// How to reach it.
    pub backend: BackendData,
}

/// What a backend tells its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendData {
    /// VXLAN, with one tunnel endpoint for each family.
    Vxlan(ByFamily<Vtep>),
    /// IPv4 in IPv4: its public address is all there is to know.
    Ipip,
    /// WireGuard, with what is the same for both families but perhaps the port.
    Wireguard(ByFamily<WireguardEndpoint>),
    /// Plain routes: its public addresses are all there is to know.
    HostGw,
    /// Any other backend by name; empty for a reservation, and where nothing carries packets.
    Other(String),
}

/// A VXLAN tunnel endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vtep {
    /// Its network identifier.
    #[serde(rename = "VNI", alias = "vni")]
    pub vni: Vni,
    /// Its Ethernet address.
    #[serde(rename = "VtepMAC", alias = "vtepmac")]
    pub mac: Mac,
}

/// A WireGuard endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireguardEndpoint {
    /// Whose it is.
    #[serde(rename = "PublicKey", alias = "publickey")]
    pub public_key: PublicKey,
    /// Its UDP port. Older flannels do not tell: 0 then, it is the same as the reader's.
    #[serde(rename = "Port", alias = "port", default)]
    pub port: u16,
}

/// Why an entry is no lease.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLease {
    /// Its key is not that of a lease.
    #[error(transparent)]
    Key(#[from] InvalidLeaseKey),
    /// A Node in Kubernetes does not say what it should.
    #[error("it does not say how to reach it: {0}")]
    Node(String),
    /// Its value is not that of a lease.
    #[error("value {value:?} is not that of a lease: {why}")]
    Value {
        /// The value, or its beginning.
        value: String,
        /// What is wrong with it.
        why: String,
    },
}

/// The value as flannel writes it: this order, `PublicIPv6` always there.
#[derive(Serialize)]
struct Written<'a> {
    #[serde(rename = "PublicIP")]
    public_ip: IpAddr,
    #[serde(rename = "PublicIPv6")]
    public_ipv6: Option<IpAddr>,
    #[serde(rename = "BackendType", skip_serializing_if = "str::is_empty")]
    backend_type: &'a str,
    #[serde(rename = "BackendData", skip_serializing_if = "Option::is_none")]
    backend_data: Option<WrittenData<'a>>,
    #[serde(rename = "BackendV6Data", skip_serializing_if = "Option::is_none")]
    backend_v6_data: Option<WrittenData<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum WrittenData<'a> {
    Vxlan(&'a Vtep),
    Wireguard(&'a WireguardEndpoint),
}

/// The value as it is read; keys in lower case.
#[derive(Deserialize)]
struct Read {
    publicip: Option<Ipv4Addr>,
    publicipv6: Option<Ipv6Addr>,
    #[serde(default)]
    backendtype: String,
    backenddata: Option<serde_json::Value>,
    backendv6data: Option<serde_json::Value>,
}

// === impl Lease ===

impl Lease {
    /// Parses an entry of etcd; `name` is its key below `<prefix>/subnets/`.
    pub fn parse(name: &str, value: &[u8]) -> Result<Self, InvalidLease> {
        let key = name.parse()?;
        let attributes = Attributes::parse(value).map_err(|why| InvalidLease::Value {
            value: String::from_utf8_lossy(value).chars().take(SHOWN).collect(),
            why,
        })?;
        Ok(Self { key, attributes })
    }
}

// === impl Attributes ===

impl Attributes {
    /// The tunnel endpoint of a family, if the node uses VXLAN in it.
    pub fn vtep(&self, family: Family) -> Option<&Vtep> {
        match &self.backend {
            BackendData::Vxlan(vteps) => vteps.get(family),
            _ => None,
        }
    }

    /// Whether both are of one node: flannel knows nodes by their public IPv4 address. Those without one
    /// are known by that of IPv6.
    pub fn is_same_node(&self, other: &Self) -> bool {
        let both = |family| Some((self.public.get(family)?, other.public.get(family)?));
        let both = Family::ALL.into_iter().find_map(both);
        both.is_some_and(|(own, others)| own == others)
    }

    /// The bytes that stand in etcd.
    pub fn to_json(&self) -> String {
        let address = |family| self.public.get(family).copied();
        let written = Written {
            public_ip: address(Family::V4).unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
            public_ipv6: address(Family::V6),
            backend_type: self.backend.name(),
            backend_data: self.backend.written(Family::V4),
            backend_v6_data: self.backend.written(Family::V6),
        };
        // An object of texts and numbers: there is nothing in it that JSON can't say.
        serde_json::to_string(&written).unwrap_or_default()
    }

    /// Parses what stands in etcd.
    pub(super) fn parse(value: &[u8]) -> Result<Self, String> {
        let read: Read = go_json::parse(value).map_err(|error| error.to_string())?;
        let mut public = ByFamily::default();
        // What there has to be, and is nothing, where a node has IPv6 alone.
        if let Some(address) = read.publicip.filter(|address| !address.is_unspecified()) {
            public.insert(Family::V4, address.into());
        }
        if let Some(address) = read.publicipv6 {
            public.insert(Family::V6, address.into());
        }
        if public.is_empty() {
            return Err("there is neither a PublicIP nor a PublicIPv6".into());
        }
        let backend = match read.backendtype.as_str() {
            "vxlan" => {
                BackendData::Vxlan(by_family(read.backenddata, read.backendv6data, is_valid)?)
            }
            "wireguard" => BackendData::Wireguard(by_family(
                read.backenddata,
                read.backendv6data,
                |_: &WireguardEndpoint| Ok(()),
            )?),
            "ipip" => BackendData::Ipip,
            "host-gw" => BackendData::HostGw,
            _ => BackendData::Other(read.backendtype),
        };
        Ok(Self { public, backend })
    }
}

// === impl BackendData ===

impl BackendData {
    /// flannel's name of the backend; empty where there is none.
    pub fn name(&self) -> &str {
        match self {
            Self::Vxlan(_) => "vxlan",
            Self::Wireguard(_) => "wireguard",
            Self::Ipip => "ipip",
            Self::HostGw => "host-gw",
            Self::Other(name) => name,
        }
    }

    /// Whether it says this WireGuard key.
    pub fn has_key(&self, key: PublicKey) -> bool {
        match self {
            Self::Wireguard(endpoints) => endpoints.iter().any(|(_, it)| it.public_key == key),
            _ => false,
        }
    }

    fn written(&self, family: Family) -> Option<WrittenData<'_>> {
        match self {
            Self::Vxlan(vteps) => vteps.get(family).map(WrittenData::Vxlan),
            Self::Wireguard(endpoints) => endpoints.get(family).map(WrittenData::Wireguard),
            Self::Ipip | Self::HostGw | Self::Other(_) => None,
        }
    }
}

/// The data of each family that has some; there has to be some of one.
fn by_family<T: DeserializeOwned>(
    v4: Option<serde_json::Value>,
    v6: Option<serde_json::Value>,
    check: impl Fn(&T) -> Result<(), String>,
) -> Result<ByFamily<T>, String> {
    let mut all = ByFamily::default();
    for (family, key, data) in [
        (Family::V4, "BackendData", v4),
        (Family::V6, "BackendV6Data", v6),
    ] {
        let Some(data) = data else { continue };
        let data = serde_json::from_value(data).map_err(|error| format!("{key}: {error}"))?;
        check(&data).map_err(|why| format!("{key}: {why}"))?;
        all.insert(family, data);
    }
    if all.is_empty() {
        return Err("BackendData is missing".into());
    }
    Ok(all)
}

fn is_valid(vtep: &Vtep) -> Result<(), String> {
    if vtep.mac.is_valid_for_device() {
        return Ok(());
    }
    Err(format!(
        "VtepMAC {} is not the address of a device",
        vtep.mac
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VXLAN: &str = r#"{"PublicIP":"192.168.64.3","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}}"#;
    const DUAL: &str = r#"{"PublicIP":"10.1.1.2","PublicIPv6":"fd01::2","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"aa:00:00:00:00:01"},"BackendV6Data":{"VNI":1,"VtepMAC":"ba:00:00:00:00:02"}}"#;

    const IPV6: &str = r#"{"PublicIP":"0.0.0.0","PublicIPv6":"fd01::2","BackendType":"vxlan","BackendV6Data":{"VNI":1,"VtepMAC":"ba:00:00:00:00:02"}}"#;
    const WIREGUARD: &str = r#"{"PublicIP":"1.2.3.4","PublicIPv6":"fd01::2","BackendType":"wireguard","BackendData":{"PublicKey":"xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=","Port":51820},"BackendV6Data":{"PublicKey":"xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=","Port":51821}}"#;

    fn parse(value: &str) -> Result<Attributes, String> {
        Lease::parse("10.5.34.0-24", value.as_bytes())
            .map(|lease| lease.attributes)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn bytes_are_flannels() {
        for value in [
            VXLAN,
            DUAL,
            r#"{"PublicIP":"1.2.3.4","PublicIPv6":null,"BackendType":"host-gw"}"#,
            r#"{"PublicIP":"1.2.3.4","PublicIPv6":null,"BackendType":"ipip"}"#,
            WIREGUARD,
            IPV6,
            r#"{"PublicIP":"1.2.3.4","PublicIPv6":null}"#,
        ] {
            assert_eq!(parse(value).unwrap().to_json(), value);
        }
    }

    #[test]
    fn reads_the_tunnel_endpoints() {
        let attributes = parse(DUAL).unwrap();
        let mac = |family| attributes.vtep(family).unwrap().mac.to_string();
        assert_eq!(mac(Family::V4), "aa:00:00:00:00:01");
        assert_eq!(mac(Family::V6), "ba:00:00:00:00:02");
        assert_eq!(
            attributes.public.get(Family::V6),
            Some(&"fd01::2".parse().unwrap())
        );
    }

    #[test]
    fn nodes_are_known_by_an_address_that_both_have() {
        let host = |v4: &str, v6: &str| {
            let value = format!(r#"{{"PublicIP":"{v4}","PublicIPv6":"{v6}"}}"#);
            parse(&value).unwrap()
        };
        let (dual, ipv6) = (host("10.1.1.2", "fd01::2"), host("0.0.0.0", "fd01::2"));
        for (other, same_as_dual, same_as_ipv6) in [
            (host("10.1.1.2", "fd01::9"), true, false),
            (host("10.1.1.9", "fd01::2"), false, true),
            (host("0.0.0.0", "fd01::2"), true, true),
            (host("0.0.0.0", "fd01::9"), false, false),
        ] {
            assert_eq!(dual.is_same_node(&other), same_as_dual, "{other:?}");
            assert_eq!(ipv6.is_same_node(&other), same_as_ipv6, "{other:?}");
        }
    }

    #[test]
    fn unknown_fields_and_other_cases_are_no_matter() {
        let value = r#"{"OwnerID":"x","publicip":"192.168.64.3","backendType":"vxlan","BackendData":{"vni":1,"more":[],"VTEPMac":"C6:D2:32:6F:8F:44"}}"#;
        assert_eq!(parse(value), parse(VXLAN));
        let reservation = parse(r#"{"PublicIP":"10.37.7.195"}"#).unwrap();
        assert_eq!(reservation.backend, BackendData::Other(String::new()));
    }

    #[test]
    fn refuses_other_values() {
        for (value, why) in [
            ("", "EOF while parsing"),
            ("null", "invalid type: null"),
            ("{}", "there is neither a PublicIP nor a PublicIPv6"),
            (
                r#"/coreos.com/network/subnets/10.5.1.0-24 {"PublicIP":"1.2.3.4"}"#,
                "expected value",
            ),
            (r#"{"PublicIP":"0.0.0.0"}"#, "there is neither a PublicIP"),
            (
                r#"{"PublicIP":"1.2.3.4","BackendType":"vxlan"}"#,
                "BackendData is missing",
            ),
            (
                r#"{"PublicIP":"1.2.3.4","BackendType":"vxlan","BackendData":{"VNI":1}}"#,
                "BackendData: missing field",
            ),
            (
                r#"{"PublicIP":"1.2.3.4","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"01:00:00:00:00:01"}}"#,
                "BackendData: VtepMAC 01:00:00:00:00:01 is not the address of a device",
            ),
            (
                r#"{"PublicIP":"1.2.3.4","BackendType":"wireguard","BackendV6Data":{"PublicKey":"x"}}"#,
                "BackendV6Data: not a WireGuard key",
            ),
            (
                r#"{"PublicIP":"1.2.3.4","BackendType":"vxlan","BackendData":{"VNI":99999999,"VtepMAC":"02:00:00:00:00:01"}}"#,
                "BackendData: VNI 99999999 is out of range",
            ),
        ] {
            let error = parse(value).unwrap_err();
            let expected = format!("value {value:?} is not that of a lease: {why}");
            assert!(error.starts_with(&expected), "{error}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(name in ".{0,20}", value in prop::collection::vec(any::<u8>(), 0..60)) {
            drop(Lease::parse(&name, &value));
        }

        #[test]
        fn never_panics_on_json(
            value in r#"\{("(PublicIP|PublicIPv6|BackendType|BackendData|BackendV6Data)":(null|[0-9]{1,9}|"(vxlan|1\.2\.3\.[0-9]|fd00::[0-9a-f]|.{0,6})"|\{"VNI":[0-9]{1,9},"VtepMAC":"[0-9a-f:]{0,18}"\}),?){0,5}\}"#,
        ) {
            if let Ok(attributes) = parse(&value) {
                prop_assert_eq!(parse(&attributes.to_json()), Ok(attributes));
            }
        }

        #[test]
        fn what_is_written_is_read(ip: u32, ip6: Option<u128>, vni in 0..1u32 << 24, mac: [u8; 6], dual: bool) {
            prop_assume!(ip != 0);
            let vtep = Vtep { vni: vni.try_into().unwrap(), mac: Mac::local(mac) };
            let v4 = Some((Family::V4, vtep));
            let v6 = dual.then_some((Family::V6, vtep));
            let attributes = Attributes {
                public: [(Family::V4, Ipv4Addr::from(ip).into())]
                    .into_iter()
                    .chain(ip6.map(|ip| (Family::V6, Ipv6Addr::from(ip).into())))
                    .collect(),
                backend: BackendData::Vxlan(v4.into_iter().chain(v6).collect()),
            };
            prop_assert_eq!(parse(&attributes.to_json()), Ok(attributes));
        }
    }
}
