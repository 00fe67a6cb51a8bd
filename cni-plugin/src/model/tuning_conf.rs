//! The tuning plugin's view of its configuration.

use std::{collections::BTreeMap, path::PathBuf};

use kernel::Mac;
use serde::Deserialize;

use super::{Args, Attachment, Error, NetConf, net_conf::null_is_default};

const DATA_DIR: &str = "/run/cni/tuning";

/// What to change; `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TuningConf {
    /// Kernel settings of the container's namespace, by their keys as they were written.
    pub sysctl: BTreeMap<String, String>,
    /// The interface's Ethernet address.
    pub mac: Option<Mac>,
    /// Whether it is to receive frames for others; where not, it stays as it is.
    pub promisc: bool,
    /// Its MTU in bytes.
    pub mtu: Option<u32>,
    /// Whether it is to receive every multicast frame.
    pub allmulti: Option<bool>,
    /// Length of its transmit queue in packets.
    pub tx_queue_len: Option<u32>,
}

/// The keys that `args.cni` may have as well.
#[derive(Default, Deserialize)]
struct Keys {
    sysctl: Option<BTreeMap<String, String>>,
    mac: Option<String>,
    promisc: Option<bool>,
    mtu: Option<u32>,
    allmulti: Option<bool>,
    #[serde(rename = "txQLen")]
    tx_queue_len: Option<u32>,
}

#[derive(Deserialize)]
struct Root {
    #[serde(
        rename = "runtimeConfig",
        default,
        deserialize_with = "null_is_default"
    )]
    runtime_config: RuntimeConfig,
    #[serde(default, deserialize_with = "null_is_default")]
    args: ArgsKey,
}

#[derive(Default, Deserialize)]
struct RuntimeConfig {
    mac: Option<String>,
}

#[derive(Default, Deserialize)]
struct ArgsKey {
    #[serde(default, deserialize_with = "null_is_default")]
    cni: Keys,
}

#[derive(Deserialize)]
struct Location {
    #[serde(rename = "dataDir", default, deserialize_with = "null_is_default")]
    data_dir: PathBuf,
}

// === impl TuningConf ===

impl TuningConf {
    /// Checks a configuration. `args.cni` comes before all else; for the Ethernet address then
    /// `runtimeConfig.mac`, then `CNI_ARGS`, then the key: so the reference has it.
    pub fn of(conf: &NetConf, attachment: &Attachment) -> Result<Self, Error> {
        // Two views, not one with the other flattened into it: errors would not name the key.
        let keys: Keys = conf.view()?;
        let Root {
            runtime_config,
            args: ArgsKey { cni },
        } = conf.view()?;
        let args = Args::parse(&attachment.args, &["MAC"])?;
        let runtime_mac = runtime_config.mac.filter(|mac| !mac.is_empty());
        let env_mac = args.get("MAC").map(str::to_owned);
        let mac = cni.mac.or(runtime_mac).or(env_mac).or(keys.mac);
        let mut sysctl = keys.sysctl.unwrap_or_default();
        sysctl.extend(cni.sysctl.unwrap_or_default());
        Ok(Self {
            sysctl,
            mac: mac
                .filter(|mac| !mac.is_empty())
                .map(parse_mac)
                .transpose()?,
            promisc: cni.promisc.or(keys.promisc).unwrap_or_default(),
            mtu: cni.mtu.or(keys.mtu).filter(|mtu| *mtu != 0),
            allmulti: cni.allmulti.or(keys.allmulti),
            tx_queue_len: cni.tx_queue_len.or(keys.tx_queue_len),
        })
    }

    /// Where backups are kept (`dataDir`). It does not depend on the rest, which may have become wrong
    /// since the ADD.
    pub fn data_dir(conf: &NetConf) -> Result<PathBuf, Error> {
        let Location { data_dir } = conf.view()?;
        let is_given = !data_dir.as_os_str().is_empty();
        Ok(if is_given { data_dir } else { DATA_DIR.into() })
    }
}

fn parse_mac(text: String) -> Result<Mac, Error> {
    text.parse()
        .map_err(|error| Error::config(format!("invalid args {text} for MAC addr: {error}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::{Value, json};

    use super::*;

    fn conf(keys: &Value, args: &str) -> Result<TuningConf, String> {
        let mut object = json!({"name": "n"});
        for (key, value) in keys.as_object().unwrap() {
            object[key] = value.clone();
        }
        let attachment = Attachment {
            container_id: "c1".into(),
            if_name: "eth0".parse().unwrap(),
            netns: String::new(),
            args: args.into(),
        };
        let conf = NetConf::parse(object.to_string().as_bytes()).unwrap();
        TuningConf::of(&conf, &attachment).map_err(|error| error.message)
    }

    #[test]
    fn the_way_to_ask_for_a_mac_that_comes_first_wins() {
        let mac = |n: u8| Mac([2, 0, 0, 0, 0, n]).to_string();
        let mut keys = json!({});
        let mut args = String::new();
        assert_eq!(conf(&keys, &args).unwrap().mac, None);
        let expect = |keys: &Value, args: &str, n| {
            let got = conf(keys, args).unwrap().mac.unwrap();
            assert_eq!(got.to_string(), mac(n));
        };
        keys["mac"] = json!(mac(1));
        expect(&keys, &args, 1);
        args = format!("IgnoreUnknown=1;MAC={}", mac(2));
        expect(&keys, &args, 2);
        keys["runtimeConfig"] = json!({"mac": mac(3)});
        expect(&keys, &args, 3);
        keys["args"] = json!({"cni": {"mac": mac(4)}});
        expect(&keys, &args, 4);
        let error = conf(&json!({"mac": "x"}), "").unwrap_err();
        assert!(
            error.starts_with("invalid args x for MAC addr: "),
            "{error}"
        );
    }

    #[test]
    fn args_add_to_the_keys() {
        let keys = json!({
            "sysctl": {"net.a": "1", "net.b": "1"}, "mtu": 1400, "promisc": true, "txQLen": 0,
            "args": {"cni": {"sysctl": {"net.b": "2"}, "promisc": false, "allmulti": false}},
        });
        let got = conf(&keys, "").unwrap();
        let sysctl: Vec<_> = got.sysctl.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(sysctl, ["net.a=1", "net.b=2"]);
        assert_eq!((got.mtu, got.promisc), (Some(1400), false));
        assert_eq!((got.allmulti, got.tx_queue_len), (Some(false), Some(0)));
        let nothing = json!({"sysctl": null, "mtu": 0, "runtimeConfig": null, "args": null});
        assert_eq!(conf(&nothing, ""), Ok(TuningConf::default()));
    }

    #[test]
    fn every_key_is_in_the_reference() {
        let mut keys = reference::keys::<Keys>();
        keys.extend(reference::keys::<Root>());
        keys.extend(reference::keys::<Location>());
        reference::every_key_is_documented("tuning", &keys);
    }
}
