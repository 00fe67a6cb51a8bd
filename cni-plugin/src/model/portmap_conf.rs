//! The portmap plugin's view of its configuration.

use std::net::IpAddr;

use kernel::{Family, conntrack::Protocol};
use serde::Deserialize;

use super::{Error, NetConf, net_conf::null_is_default};

/// The bit of the packet mark that asks for masquerading, where none is named.
const DEFAULT_MARK_BIT: i64 = 13;

/// What the rules are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortmapBackend {
    /// `iptables`
    Iptables,
    /// `nftables`
    Nftables,
}

/// The configuration, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortmapConf {
    /// `backend`; `None` where the plugin chooses.
    pub backend: Option<PortmapBackend>,
    /// `snat`: masquerade what a container or this node sends to a hostPort of its own.
    pub snat: bool,
    /// `masqAll`: masquerade all that is sent to a hostPort.
    pub masq_all: bool,
    /// `markMasqBit` as a mask.
    pub mark: u32,
    /// `externalSetMarkChain`: somebody else's chain that marks what is to be masqueraded.
    pub external_set_mark_chain: Option<String>,
    /// `runtimeConfig.portMappings`
    pub mappings: Vec<PortMapping>,
    conditions_v4: Vec<String>,
    conditions_v6: Vec<String>,
}

/// A port of the node that leads into the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortMapping {
    /// `hostPort`
    pub host_port: u16,
    /// `containerPort`
    pub container_port: u16,
    /// `protocol`
    pub protocol: Protocol,
    /// `hostIP`; an unspecified one stands for all addresses of its family.
    pub host_ip: Option<IpAddr>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    backend: Option<String>,
    snat: Option<bool>,
    #[serde(default, deserialize_with = "null_is_default")]
    masq_all: bool,
    mark_masq_bit: Option<i64>,
    external_set_mark_chain: Option<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    conditions_v4: Vec<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    conditions_v6: Vec<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    runtime_config: RawRuntimeConfig,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRuntimeConfig {
    #[serde(default, deserialize_with = "null_is_default")]
    port_mappings: Vec<RawMapping>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMapping {
    #[serde(default, deserialize_with = "null_is_default")]
    host_port: i64,
    #[serde(default, deserialize_with = "null_is_default")]
    container_port: i64,
    #[serde(default, deserialize_with = "null_is_default")]
    protocol: String,
    #[serde(default, rename = "hostIP", deserialize_with = "null_is_default")]
    host_ip: String,
}

// === impl PortmapConf ===

impl PortmapConf {
    /// Checks a configuration, with the reference plugin's texts.
    pub fn of(conf: &NetConf) -> Result<Self, Error> {
        let raw: Raw = conf.view()?;
        if raw.mark_masq_bit.is_some() && raw.external_set_mark_chain.is_some() {
            return Err(Error::config(
                "Cannot specify externalSetMarkChain and markMasqBit",
            ));
        }
        let bit = raw.mark_masq_bit.unwrap_or(DEFAULT_MARK_BIT);
        let mark = u32::try_from(bit)
            .ok()
            .and_then(|bit| 1u32.checked_shl(bit))
            .ok_or_else(|| Error::config("MasqMarkBit must be between 0 and 31"))?;
        let mappings = raw.runtime_config.port_mappings.iter();
        Ok(Self {
            backend: raw.backend.as_deref().map(backend).transpose()?,
            snat: raw.snat.unwrap_or(true),
            masq_all: raw.masq_all,
            mark,
            external_set_mark_chain: raw.external_set_mark_chain.map(chain_name).transpose()?,
            mappings: mappings.map(mapping).collect::<Result<_, _>>()?,
            conditions_v4: conditions("conditionsV4", raw.conditions_v4)?,
            conditions_v6: conditions("conditionsV6", raw.conditions_v6)?,
        })
    }

    /// `conditionsV4` or `conditionsV6`: what else a packet has to match, in the words of the backend.
    pub fn conditions(&self, family: Family) -> &[String] {
        match family {
            Family::V4 => &self.conditions_v4,
            Family::V6 => &self.conditions_v6,
        }
    }

    /// Refuses keys that are written for the other backend.
    pub fn check_backend(&self, chosen: PortmapBackend) -> Result<(), Error> {
        let other = chosen.other();
        let mut wrong = Vec::new();
        if self.external_set_mark_chain.is_some() && other == PortmapBackend::Iptables {
            wrong.push("externalSetMarkChain");
        }
        for (key, words) in [
            ("conditionsV4", &self.conditions_v4),
            ("conditionsV6", &self.conditions_v6),
        ] {
            if backend_of_conditions(words) == Some(other) {
                wrong.push(key);
            }
        }
        if wrong.is_empty() {
            return Ok(());
        }
        Err(Error::config(format!(
            "{} backend was requested but configuration contains {}-specific options [{}]",
            chosen.name(),
            other.name(),
            wrong.join(" ")
        )))
    }
}

// === impl PortmapBackend ===

impl PortmapBackend {
    /// The value of the key.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Nftables => "nftables",
        }
    }

    const fn other(self) -> Self {
        match self {
            Self::Iptables => Self::Nftables,
            Self::Nftables => Self::Iptables,
        }
    }
}

fn backend(name: &str) -> Result<PortmapBackend, Error> {
    [PortmapBackend::Iptables, PortmapBackend::Nftables]
        .into_iter()
        .find(|backend| backend.name() == name)
        .ok_or_else(|| Error::config(format!("unrecognized backend {name:?}")))
}

/// iptables' conditions begin with an option or a negation, nftables' with neither.
fn backend_of_conditions(words: &[String]) -> Option<PortmapBackend> {
    words
        .first()
        .filter(|word| !word.is_empty())
        .map(|word| match word.starts_with(['-', '!']) {
            true => PortmapBackend::Iptables,
            false => PortmapBackend::Nftables,
        })
}

/// Conditions become part of a line of `iptables-restore`'s input, which a line break would end.
fn conditions(key: &str, words: Vec<String>) -> Result<Vec<String>, Error> {
    match words.iter().find(|word| word.contains(char::is_control)) {
        Some(word) => Err(Error::config(format!(
            "{key}: {word:?} has a control character"
        ))),
        None => Ok(words),
    }
}

fn chain_name(name: String) -> Result<String, Error> {
    let ordinary = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '\'');
    if !name.is_empty() && !name.starts_with('-') && name.chars().all(ordinary) {
        return Ok(name);
    }
    Err(Error::config(format!(
        "externalSetMarkChain: {name:?} can't be the name of a chain"
    )))
}

fn mapping(raw: &RawMapping) -> Result<PortMapping, Error> {
    let container_port = port("container", raw.container_port)?;
    let host_port = port("host", raw.host_port)?;
    let name = raw.protocol.to_lowercase();
    let mut protocols = Protocol::ALL.into_iter();
    let protocol = protocols.find(|protocol| protocol.to_string() == name);
    let host_ip = Some(&raw.host_ip).filter(|text| !text.is_empty());
    Ok(PortMapping {
        host_port,
        container_port,
        protocol: protocol.ok_or_else(|| {
            Error::config(format!(
                "runtimeConfig.portMappings: unknown protocol {:?} of host port {host_port}: want tcp, udp or sctp",
                raw.protocol
            ))
        })?,
        host_ip: host_ip.map(|text| address(text)).transpose()?,
    })
}

fn port(whose: &str, number: i64) -> Result<u16, Error> {
    u16::try_from(number)
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| Error::config(format!("Invalid {whose} port number: {number}")))
}

fn address(text: &str) -> Result<IpAddr, Error> {
    let parsed: Result<IpAddr, _> = text.parse();
    parsed.map(|ip| ip.to_canonical()).map_err(|_| {
        Error::config(format!(
            "runtimeConfig.portMappings: hostIP {text:?} is no address"
        ))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::{Value, json};

    use super::*;

    fn conf(keys: Value) -> Result<PortmapConf, String> {
        let mut object = json!({"name": "n", "cniVersion": "1.0.0"});
        for (key, value) in keys.as_object().unwrap() {
            object[key] = value.clone();
        }
        let conf = NetConf::parse(object.to_string().as_bytes()).unwrap();
        PortmapConf::of(&conf).map_err(|error| error.message)
    }

    fn mapping(mapping: Value) -> Value {
        json!({"runtimeConfig": {"portMappings": [mapping]}})
    }

    #[test]
    fn the_defaults_are_those_of_the_reference() {
        let conf = conf(json!({"snat": null, "conditionsV4": null})).unwrap();
        assert_eq!((conf.snat, conf.masq_all, conf.mark), (true, false, 0x2000));
        assert_eq!((conf.backend, conf.mappings.len()), (None, 0));
    }

    #[test]
    fn mappings_are_read() {
        let keys = mapping(
            json!({"hostPort": 53, "containerPort": 5353, "protocol": "UDP", "hostIP": "::ffff:10.0.0.1"}),
        );
        let want = PortMapping {
            host_port: 53,
            container_port: 5353,
            protocol: Protocol::Udp,
            host_ip: Some("10.0.0.1".parse().unwrap()),
        };
        assert_eq!(conf(keys).unwrap().mappings, [want]);
    }

    #[test]
    fn nonsense_is_refused_in_the_words_of_the_reference() {
        for (keys, text) in [
            (
                json!({"markMasqBit": 5, "externalSetMarkChain": "KUBE-MARK-MASQ"}),
                "Cannot specify externalSetMarkChain and markMasqBit",
            ),
            (
                json!({"markMasqBit": 32}),
                "MasqMarkBit must be between 0 and 31",
            ),
            (
                json!({"markMasqBit": -1}),
                "MasqMarkBit must be between 0 and 31",
            ),
            (json!({"backend": "x"}), r#"unrecognized backend "x""#),
            (
                mapping(json!({"hostPort": 0, "containerPort": 1, "protocol": "tcp"})),
                "Invalid host port number: 0",
            ),
            (
                mapping(json!({"hostPort": 70000, "containerPort": 1, "protocol": "tcp"})),
                "Invalid host port number: 70000",
            ),
            (
                mapping(json!({"hostPort": 0, "protocol": "tcp"})),
                "Invalid container port number: 0",
            ),
            (
                mapping(json!({"hostPort": 1, "containerPort": 1, "protocol": "icmp"})),
                r#"runtimeConfig.portMappings: unknown protocol "icmp" of host port 1: want tcp, udp or sctp"#,
            ),
            (
                json!({"externalSetMarkChain": "a b"}),
                r#"externalSetMarkChain: "a b" can't be the name of a chain"#,
            ),
            (
                json!({"conditionsV4": ["-s", "1\n-A"]}),
                r#"conditionsV4: "1\n-A" has a control character"#,
            ),
        ] {
            assert_eq!(conf(keys.clone()).unwrap_err(), text, "{keys}");
        }
    }

    #[test]
    fn keys_for_the_other_backend_are_refused() {
        let keys = json!({"externalSetMarkChain": "X", "conditionsV6": ["!", "-s", "fd00::/8"]});
        let checked = conf(keys).unwrap();
        assert_eq!(checked.check_backend(PortmapBackend::Iptables), Ok(()));
        let error = checked.check_backend(PortmapBackend::Nftables).unwrap_err();
        assert_eq!(
            error.message,
            "nftables backend was requested but configuration contains iptables-specific options [externalSetMarkChain conditionsV6]"
        );
    }

    #[test]
    fn every_key_is_in_the_reference() {
        reference::every_key_is_documented("portmap", &reference::keys::<Raw>());
    }
}
