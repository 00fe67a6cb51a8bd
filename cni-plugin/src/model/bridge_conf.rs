//! The configuration of the bridge plugin.

use kernel::{IfName, Mac};
use serde::Deserialize;

use super::{
    Args, Attachment, Dns, Error, NetConf, Vlans, net_conf::null_is_default, vlans::TrunkItem,
};

/// The bridge where none is named.
const DEFAULT_BRIDGE: &str = "cni0";

/// Keys of the bridge plugin.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BridgeConf {
    /// The bridge's name.
    #[serde(default)]
    bridge: Option<IfName>,
    /// Whether the bridge gets the gateway's addresses.
    #[serde(default, deserialize_with = "null_is_default")]
    pub is_gateway: bool,
    /// Whether the container gets a default route through the gateway; makes `is_gateway` true.
    #[serde(default, deserialize_with = "null_is_default")]
    pub is_default_gateway: bool,
    /// MTU of bridge and pair, in bytes; 0 for the kernel's default.
    #[serde(default, deserialize_with = "null_is_default")]
    mtu: u32,
    /// Whether the container can reach itself through the bridge.
    #[serde(default, deserialize_with = "null_is_default")]
    pub hairpin_mode: bool,
    /// Whether the bridge itself takes frames for others; another way to the same end as `hairpin_mode`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub promisc_mode: bool,
    /// Whether the container's packets leave the node under the node's address.
    #[serde(default, deserialize_with = "null_is_default")]
    pub ip_masq: bool,
    #[serde(default, deserialize_with = "null_is_default")]
    ip_masq_backend: String,
    /// Whether the bridge loses the address of another subnet, to get the gateway's.
    #[serde(default, deserialize_with = "null_is_default")]
    pub force_address: bool,
    #[serde(default, deserialize_with = "null_is_default")]
    vlan: i64,
    #[serde(default, deserialize_with = "null_is_default")]
    vlan_trunk: Vec<TrunkItem>,
    #[serde(default, deserialize_with = "null_is_default")]
    preserve_default_vlan: bool,
    /// Whether frames from the container are dropped that have another Ethernet address than its own.
    #[serde(rename = "macspoofchk", default, deserialize_with = "null_is_default")]
    pub mac_spoof_chk: bool,
    /// Whether the container can't talk to other isolated ones of the bridge.
    #[serde(default, deserialize_with = "null_is_default")]
    pub port_isolation: bool,
    /// Whether the kernel looks for others with the container's IPv6 addresses before it uses them.
    #[serde(rename = "enabledad", default, deserialize_with = "null_is_default")]
    pub enable_dad: bool,
    /// Whether the container's interface stays down, for somebody else to set up; without addresses.
    #[serde(default, deserialize_with = "null_is_default")]
    pub disable_container_interface: bool,
    /// Name servers for the container; where there are none, those of `ipam` count.
    #[serde(default, deserialize_with = "null_is_default")]
    pub dns: Dns,
    #[serde(default, deserialize_with = "null_is_default")]
    ipam: Ipam,
    #[serde(default, deserialize_with = "null_is_default")]
    args: ConfArgs,
    #[serde(default, deserialize_with = "null_is_default")]
    runtime_config: MacArg,
}

/// What masquerades.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MasqueradeBackend {
    /// iptables' programs.
    Iptables,
    /// nftables, by netlink.
    Nftables,
}

/// The part of `ipam` that the bridge plugin looks at; the rest is the IPAM plugin's own.
#[derive(Clone, Debug, Default, Deserialize)]
struct Ipam {
    #[serde(rename = "type", default, deserialize_with = "null_is_default")]
    kind: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct ConfArgs {
    #[serde(default, deserialize_with = "null_is_default")]
    cni: MacArg,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct MacArg {
    #[serde(default, deserialize_with = "null_is_default")]
    mac: String,
}

// === impl BridgeConf ===

impl BridgeConf {
    /// Reads the keys that an ADD needs; refuses what this plugin can't do.
    pub fn for_add(conf: &NetConf) -> Result<Self, Error> {
        let read: Self = conf.view()?;
        if read.hairpin_mode && read.promisc_mode {
            return Err(Error::config(
                "cannot set hairpin mode and promiscuous mode at the same time",
            ));
        }
        if read.disable_container_interface && read.ipam_type().is_some() {
            return Err(Error::config(
                "cannot use IPAM when DisableContainerInterface flag is set",
            ));
        }
        read.masquerade_backend()?;
        read.vlans()?;
        Ok(read)
    }

    /// What masquerades, where the configuration says it.
    ///
    /// # Errors
    /// If there is no such thing.
    pub fn masquerade_backend(&self) -> Result<Option<MasqueradeBackend>, Error> {
        match self.ip_masq_backend.as_str() {
            "" => Ok(None),
            "iptables" => Ok(Some(MasqueradeBackend::Iptables)),
            "nftables" => Ok(Some(MasqueradeBackend::Nftables)),
            other => Err(Error::config(format!("unknown ipmasq backend {other:?}"))),
        }
    }

    /// The VLANs of the container's port.
    pub fn vlans(&self) -> Result<Vlans, Error> {
        Vlans::new(self.vlan, &self.vlan_trunk, self.preserve_default_vlan)
    }

    /// The interface that has the gateway's addresses: the bridge itself, or one of its own in the VLAN
    /// that the container is in.
    pub fn gateway_interface(&self) -> Result<IfName, Error> {
        let bridge = self.bridge()?;
        match self.vlans()?.access {
            Some(id) => format!("{bridge}.{id}").parse().map_err(|error| {
                Error::config(format!("the gateway's interface in VLAN {id}: {error}"))
            }),
            None => Ok(bridge),
        }
    }

    /// The bridge's name.
    pub fn bridge(&self) -> Result<IfName, Error> {
        match &self.bridge {
            Some(name) => Ok(name.clone()),
            None => DEFAULT_BRIDGE.parse().map_err(Error::config),
        }
    }

    /// MTU of bridge and pair in bytes, where one was set.
    pub fn mtu(&self) -> Option<u32> {
        (self.mtu != 0).then_some(self.mtu)
    }

    /// `ipam.type`; `None` for a network without addresses.
    pub fn ipam_type(&self) -> Option<&str> {
        Some(self.ipam.kind.as_str()).filter(|kind| !kind.is_empty())
    }

    /// The container's Ethernet address, where one was asked for: by `CNI_ARGS` (`MAC=`), by
    /// `args.cni.mac` or by `runtimeConfig.mac`, of which the later wins.
    pub fn mac(&self, attachment: &Attachment) -> Result<Option<Mac>, Error> {
        let args = Args::parse(&attachment.args, &["MAC"])?;
        let asked = [
            ("runtimeConfig.mac", self.runtime_config.mac.as_str()),
            ("args.cni.mac", &self.args.cni.mac),
            ("CNI_ARGS: MAC", args.get("MAC").unwrap_or_default()),
        ];
        asked
            .into_iter()
            .find(|(_, text)| !text.is_empty())
            .map(|(key, text)| {
                text.parse()
                    .map_err(|error| Error::config(format!("{key}: {error}")))
            })
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn conf(mut json: Value) -> NetConf {
        json["name"] = "n".into();
        NetConf::parse(json.to_string().as_bytes()).unwrap()
    }

    fn attachment(args: &str) -> Attachment {
        Attachment {
            container_id: "c".into(),
            if_name: "eth0".parse().unwrap(),
            netns: String::new(),
            args: args.into(),
        }
    }

    #[test]
    fn defaults_are_those_of_the_reference_plugin() {
        let read = BridgeConf::for_add(&conf(json!({"mtu": 0, "isGateway": null}))).unwrap();
        assert_eq!(read.bridge().unwrap().as_str(), "cni0");
        assert_eq!((read.mtu(), read.ipam_type()), (None, None));
        assert!(!read.is_gateway && !read.is_default_gateway && !read.hairpin_mode);
    }

    #[test]
    fn a_value_of_the_wrong_type_is_named() {
        for (json, message) in [
            (
                json!({"mtu": "big"}),
                r#"failed to load netconf: mtu: invalid type: string "big", expected u32"#,
            ),
            (
                json!({"bridge": "far-too-long-a-name"}),
                r#"failed to load netconf: bridge: interface name "far-too-long-a-name" is too long: at most 15 bytes"#,
            ),
            (
                json!({"ipMasqBackend": "ipchains"}),
                r#"unknown ipmasq backend "ipchains""#,
            ),
            (
                json!({"hairpinMode": true, "promiscMode": true}),
                "cannot set hairpin mode and promiscuous mode at the same time",
            ),
        ] {
            assert_eq!(
                BridgeConf::for_add(&conf(json)).unwrap_err().message,
                message
            );
        }
    }

    #[test]
    fn the_later_way_to_ask_for_a_mac_wins() {
        let by_env = "IgnoreUnknown=1;MAC=02:00:00:00:00:01";
        for (json, args, mac) in [
            (json!({}), "", None),
            (
                json!({"runtimeConfig": {"mac": ""}}),
                by_env,
                Some("02:00:00:00:00:01"),
            ),
            (
                json!({"args": {"cni": {"mac": "02:00:00:00:00:02"}}}),
                by_env,
                Some("02:00:00:00:00:02"),
            ),
            (
                json!({"args": {"cni": {"mac": "02:00:00:00:00:02"}}, "runtimeConfig": {"mac": "02:00:00:00:00:03"}}),
                by_env,
                Some("02:00:00:00:00:03"),
            ),
        ] {
            let read = BridgeConf::for_add(&conf(json)).unwrap();
            let got = read
                .mac(&attachment(args))
                .unwrap()
                .map(|mac| mac.to_string());
            assert_eq!(got.as_deref(), mac);
        }
        let read = BridgeConf::for_add(&conf(json!({}))).unwrap();
        let error = read.mac(&attachment("MAC=x")).unwrap_err();
        assert!(
            error
                .message
                .starts_with("CNI_ARGS: MAC: \"x\" is not a MAC"),
            "{error}"
        );
    }

    #[test]
    fn every_key_is_in_the_reference() {
        reference::every_key_is_documented("bridge", &reference::keys::<BridgeConf>());
    }
}
