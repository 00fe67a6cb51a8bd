//! The configuration of host-local, the `ipam` of another plugin's.

use std::{net::IpAddr, path::PathBuf};

use serde::Deserialize;

use super::{
    Args, Attachment, Cidr, Error, NetConf, RangeSet, Route, SpecVersion,
    ip_text::{optional_address, requested_address},
    net_conf::null_is_default,
    range_set::{RangeError, RawRange},
};

/// Where host-local keeps its files if nobody says otherwise.
const DEFAULT_DATA_DIR: &str = "/var/lib/cni/networks";

/// What an ADD needs to know.
#[derive(Clone, Debug)]
pub struct IpamConf {
    /// Where the reservations are.
    pub location: IpamLocation,
    /// The sets to take one address each from.
    pub range_sets: Vec<RangeSet>,
    /// Routes for the container.
    pub routes: Vec<Route>,
    /// Addresses that somebody asked for.
    pub requested: Vec<IpAddr>,
    /// A `resolv.conf` that says which name servers the container has.
    pub resolv_conf: Option<PathBuf>,
}

/// Where a network's reservations are: all that a DEL needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpamLocation {
    /// The directory of the network.
    pub dir: PathBuf,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(default)]
    ipam: Option<RawIpam>,
    #[serde(default, deserialize_with = "null_is_default")]
    runtime_config: RuntimeConfig,
    #[serde(default, deserialize_with = "null_is_default")]
    args: RawArgs,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawIpam {
    // The old style, before there were several ranges. Not flattened: serde would lose the way to a value
    // that an error has to name.
    #[serde(default)]
    subnet: Option<Cidr>,
    #[serde(default, deserialize_with = "optional_address")]
    range_start: Option<IpAddr>,
    #[serde(default, deserialize_with = "optional_address")]
    range_end: Option<IpAddr>,
    #[serde(default, deserialize_with = "optional_address")]
    gateway: Option<IpAddr>,
    #[serde(default, deserialize_with = "null_is_default")]
    ranges: Vec<Vec<RawRange>>,
    #[serde(default, deserialize_with = "null_is_default")]
    routes: Vec<Route>,
    #[serde(default, deserialize_with = "null_is_default")]
    data_dir: String,
    #[serde(default, deserialize_with = "null_is_default")]
    resolv_conf: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RuntimeConfig {
    #[serde(default, deserialize_with = "null_is_default")]
    ip_ranges: Vec<Vec<RawRange>>,
    #[serde(default, deserialize_with = "null_is_default")]
    ips: Vec<String>,
}

#[derive(Default, Deserialize)]
struct RawArgs {
    #[serde(default, deserialize_with = "null_is_default")]
    cni: CniArgs,
}

#[derive(Default, Deserialize)]
struct CniArgs {
    #[serde(default, deserialize_with = "null_is_default")]
    ips: Vec<String>,
}

// === impl IpamConf ===

impl IpamConf {
    /// Reads and checks all of it.
    pub fn for_add(conf: &NetConf, attachment: &Attachment) -> Result<Self, Error> {
        let raw: Raw = conf.view()?;
        let ipam = raw.ipam.ok_or_else(missing_ipam)?;
        let old_style = ipam.subnet.is_some().then(|| {
            vec![RawRange {
                subnet: ipam.subnet,
                range_start: ipam.range_start,
                range_end: ipam.range_end,
                gateway: ipam.gateway,
            }]
        });
        let mut sets = raw.runtime_config.ip_ranges;
        sets.extend(old_style);
        sets.extend(ipam.ranges);
        let asked = [raw.args.cni.ips, raw.runtime_config.ips].concat();
        Ok(Self {
            location: IpamLocation::new(conf, ipam.data_dir),
            range_sets: range_sets(&sets, conf.version())?,
            routes: ipam.routes,
            requested: requested(&attachment.args, &asked)?,
            resolv_conf: Some(ipam.resolv_conf)
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
        })
    }
}

// === impl IpamLocation ===

impl IpamLocation {
    /// Reads only what leads to the reservations: ranges that make no sense any more are no reason to
    /// keep addresses.
    pub fn for_del(conf: &NetConf) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Raw {
            #[serde(default)]
            ipam: Option<RawLocation>,
        }
        #[derive(Deserialize)]
        struct RawLocation {
            #[serde(rename = "dataDir", default, deserialize_with = "null_is_default")]
            data_dir: String,
        }
        let raw: Raw = conf.view()?;
        let ipam = raw.ipam.ok_or_else(missing_ipam)?;
        Ok(Self::new(conf, ipam.data_dir))
    }

    fn new(conf: &NetConf, data_dir: String) -> Self {
        let data_dir = if data_dir.is_empty() {
            PathBuf::from(DEFAULT_DATA_DIR)
        } else {
            PathBuf::from(data_dir)
        };
        Self {
            dir: data_dir.join(conf.name()),
        }
    }
}

fn missing_ipam() -> Error {
    Error::config("IPAM config missing 'ipam' key")
}

fn range_sets(raw: &[Vec<RawRange>], version: &str) -> Result<Vec<RangeSet>, Error> {
    if raw.is_empty() {
        return Err(Error::config("no IP ranges specified"));
    }
    let in_set = |index, error: RangeError| format!("invalid range set {index}: {error}");
    let sets = raw
        .iter()
        .enumerate()
        .map(|(index, raw)| RangeSet::new(raw).map_err(|error| Error::config(in_set(index, error))))
        .collect::<Result<Vec<_>, _>>()?;
    let one_per_family = sets.iter().enumerate().all(|(index, set)| {
        sets.iter()
            .skip(index + 1)
            .all(|it| it.family() != set.family())
    });
    if !one_per_family && SpecVersion::of_conf(version)? < SpecVersion::V0_3_0 {
        return Err(Error::config(format!(
            "CNI version {version} does not support more than 1 address per family"
        )));
    }
    for (index, set) in sets.iter().enumerate() {
        let overlapping = |(_, other): &(usize, &RangeSet)| set.overlaps(other);
        let mut later = sets.iter().enumerate().skip(index + 1);
        if let Some((other, _)) = later.find(overlapping) {
            return Err(Error::config(format!(
                "range set {index} overlaps with {other}"
            )));
        }
    }
    Ok(sets)
}

/// The addresses asked for by `IP=` in `CNI_ARGS` and by configuration.
fn requested(env_args: &str, asked: &[String]) -> Result<Vec<IpAddr>, Error> {
    let args = Args::parse(env_args, &["IP"])?;
    let mut requested: Vec<IpAddr> = Vec::new();
    for text in args
        .get("IP")
        .into_iter()
        .chain(asked.iter().map(String::as_str))
    {
        let address = requested_address(text)
            .map_err(|_| Error::config(format!("requested address: invalid IP address {text}")))?;
        if !requested.contains(&address) {
            requested.push(address);
        }
    }
    Ok(requested)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read_with(mut json: Value, args: &str) -> Result<IpamConf, Error> {
        json["name"] = "cbr0".into();
        let conf = NetConf::parse(json.to_string().as_bytes()).unwrap();
        let attachment = Attachment {
            container_id: "c".into(),
            if_name: "eth0".parse().unwrap(),
            netns: String::new(),
            args: args.into(),
        };
        IpamConf::for_add(&conf, &attachment)
    }

    fn read(ipam: Value) -> Result<IpamConf, Error> {
        read_with(json!({"ipam": ipam, "cniVersion": "1.0.0"}), "")
    }

    #[test]
    fn range_sets_come_in_the_order_of_the_reference_plugin() {
        let conf = read_with(
            json!({
                "cniVersion": "0.3.1",
                "ipam": {"subnet": "10.2.0.0/24", "ranges": [[{"subnet": "10.3.0.0/24"}], [{"subnet": "fd00::/64"}]]},
                "runtimeConfig": {"ipRanges": [[{"subnet": "10.1.0.0/24"}]]},
            }),
            "",
        )
        .unwrap();
        let texts: Vec<String> = conf.range_sets.iter().map(RangeSet::to_string).collect();
        assert_eq!(
            texts[..3].join(" "),
            "10.1.0.1-10.1.0.254 10.2.0.1-10.2.0.254 10.3.0.1-10.3.0.254"
        );
        assert_eq!(
            conf.location.dir,
            PathBuf::from("/var/lib/cni/networks/cbr0")
        );
    }

    #[test]
    fn addresses_are_requested_in_three_ways() {
        let conf = read_with(
            json!({
                "ipam": {"subnet": "10.2.0.0/24"},
                "args": {"cni": {"ips": ["10.2.0.3/24"]}},
                "runtimeConfig": {"ips": ["10.2.0.4", "10.2.0.2"]},
            }),
            "IP=10.2.0.2",
        )
        .unwrap();
        let texts: Vec<String> = conf.requested.iter().map(IpAddr::to_string).collect();
        assert_eq!(texts, ["10.2.0.2", "10.2.0.3", "10.2.0.4"]);
    }

    #[test]
    fn bad_configuration_is_refused_in_the_words_of_host_local() {
        let v4 = json!([{"subnet": "10.1.0.0/24"}]);
        for (result, message) in [
            (read(Value::Null), "IPAM config missing 'ipam' key"),
            (read(json!({})), "no IP ranges specified"),
            (
                read(json!({"ranges": [[]]})),
                "invalid range set 0: empty range set",
            ),
            (
                read(json!({"ranges": [v4, [{"subnet": "10.1.0.128/25"}]]})),
                "range set 0 overlaps with 1",
            ),
            (
                read_with(
                    json!({"ipam": {"ranges": [v4, [{"subnet": "10.2.0.0/24"}]]}, "cniVersion": "0.2.0"}),
                    "",
                ),
                "CNI version 0.2.0 does not support more than 1 address per family",
            ),
            (
                read(json!({"ranges": [[{"subnet": "10.1.0.0"}]]})),
                "failed to load netconf: ipam.ranges[0][0].subnet: invalid CIDR address: 10.1.0.0",
            ),
            (
                read_with(json!({"ipam": {"subnet": "10.2.0.0/24"}}), "IP=ten"),
                "requested address: invalid IP address ten",
            ),
        ] {
            assert_eq!(result.unwrap_err().message, message);
        }
    }

    #[test]
    fn every_key_is_in_the_reference() {
        reference::every_key_is_documented("host-local", &reference::keys::<Raw>());
    }
}
