//! The configuration that flannel hands to its delegate.

use serde_json::{Map, Value, json};

use crate::model::{Cidr, FlannelConf, NetConf, Route, SubnetEnv};

/// What does the work if the configuration names no other plugin.
const DEFAULT_TYPE: &str = "bridge";
/// What gives out addresses if the configuration names no other plugin.
const DEFAULT_IPAM_TYPE: &str = "host-local";

/// Why there is no configuration for a delegate, in flannel's words.
#[derive(Debug, thiserror::Error)]
pub enum DelegateError {
    /// `delegate.type` is no text.
    #[error("'delegate' dictionary, if present, must have (string) 'type' field")]
    TypeIsNoText,
    /// `delegate.name` or `delegate.ipam` is there.
    #[error("'delegate' dictionary must not have '{0}' field, it'll be set by flannel")]
    SetByFlannel(&'static str),
    /// `ipam.routes` are no routes.
    #[error("failed to assemble Delegate IPAM: failed to parse ipam.routes: {0}")]
    Routes(String),
}

/// The delegate's configuration for an ADD. Keys are in the order in which Go prints them.
pub fn for_add(
    conf: &NetConf,
    flannel: &FlannelConf,
    env: &SubnetEnv,
) -> Result<Map<String, Value>, DelegateError> {
    let mut delegate = frame(conf, flannel)?;
    let mut default = |key: &str, value: Value| {
        delegate.entry(key).or_insert(value);
    };
    // Where flannel does not masquerade, somebody has to.
    default("ipMasq", (!env.ipmasq).into());
    default("mtu", env.mtu.into());
    if delegate.get("type") == Some(&DEFAULT_TYPE.into()) {
        delegate.entry("isGateway").or_insert(true.into());
    }
    let mut ipam = ipam(flannel);
    let ranges: Vec<Value> = env
        .subnets
        .iter()
        .map(|subnet| json!([{ "subnet": subnet }]))
        .collect();
    ipam.insert("ranges".into(), ranges.into());
    ipam.insert("routes".into(), json!(routes(flannel, &env.networks)?));
    delegate.insert("ipam".into(), ipam.into());
    delegate.sort_keys();
    delegate.values_mut().for_each(Value::sort_all_objects);
    Ok(delegate)
}

/// The delegate's configuration for a DEL of which nothing else is known: enough to find what the ADD made.
pub fn for_del(conf: &NetConf, flannel: &FlannelConf) -> Result<Map<String, Value>, DelegateError> {
    let mut delegate = frame(conf, flannel)?;
    delegate.insert("ipam".into(), ipam(flannel).into());
    // The ADD may have masqueraded: that depended on the node.
    delegate.entry("ipMasq").or_insert(true.into());
    Ok(delegate)
}

/// What does not depend on the node.
fn frame(conf: &NetConf, flannel: &FlannelConf) -> Result<Map<String, Value>, DelegateError> {
    let mut delegate = flannel.delegate.clone();
    if delegate.get("type").is_some_and(|kind| !kind.is_string()) {
        return Err(DelegateError::TypeIsNoText);
    }
    if let Some(key) = ["name", "ipam"]
        .into_iter()
        .find(|key| delegate.contains_key(*key))
    {
        return Err(DelegateError::SetByFlannel(key));
    }
    delegate.insert("name".into(), conf.name().into());
    delegate.entry("type").or_insert(DEFAULT_TYPE.into());
    if !conf.version().is_empty() {
        delegate.insert("cniVersion".into(), conf.version().into());
    }
    if let Some(runtime_config) = &flannel.runtime_config {
        delegate.insert("runtimeConfig".into(), runtime_config.clone().into());
    }
    Ok(delegate)
}

fn ipam(flannel: &FlannelConf) -> Map<String, Value> {
    let mut ipam = flannel.ipam.clone();
    ipam.entry("type").or_insert(DEFAULT_IPAM_TYPE.into());
    ipam
}

/// The user's routes, then one to each of flannel's networks that has none yet.
fn routes(flannel: &FlannelConf, networks: &[Cidr]) -> Result<Vec<Route>, DelegateError> {
    let mut routes: Vec<Route> = match flannel.ipam.get("routes") {
        None | Some(Value::Null) => Vec::new(),
        Some(routes) => serde_path_to_error::deserialize(routes)
            .map_err(|error| DelegateError::Routes(error.to_string()))?,
    };
    for network in networks {
        if !routes.iter().any(|route| route.dst == *network) {
            routes.push(Route::new(*network, None));
        }
    }
    Ok(routes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENV: &str = "FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.17.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n";

    fn delegate(conf: &Value, env: &str) -> Result<String, String> {
        let conf = NetConf::parse(conf.to_string().as_bytes()).unwrap();
        let env = SubnetEnv::parse("subnet.env", env).unwrap();
        for_add(&conf, &conf.view().unwrap(), &env)
            .map(|delegate| Value::from(delegate).to_string())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_golden_delegate_of_flannels_own_tests() {
        let conf = json!({"name": "cni-flannel", "type": "flannel"});
        let golden = json!({
            "ipMasq": false,
            "ipam": {
                "routes": [{"dst": "10.1.0.0/16"}],
                "ranges": [[{"subnet": "10.1.17.0/24"}]],
                "type": "host-local"
            },
            "isGateway": true,
            "mtu": 1472,
            "name": "cni-flannel",
            "type": "bridge"
        });
        let text = delegate(&conf, ENV).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), golden);
        // Byte for byte what Go's encoder makes of it.
        assert_eq!(
            text,
            r#"{"ipMasq":false,"ipam":{"ranges":[[{"subnet":"10.1.17.0/24"}]],"routes":[{"dst":"10.1.0.0/16"}],"type":"host-local"},"isGateway":true,"mtu":1472,"name":"cni-flannel","type":"bridge"}"#
        );
    }

    #[test]
    fn what_the_user_says_comes_first() {
        let conf = json!({
            "name": "cbr0",
            "cniVersion": "0.3.1",
            "type": "flannel",
            "delegate": {"hairpinMode": true, "isGateway": false, "ipMasq": false, "mtu": 1400},
            "ipam": {"dataDir": "/d", "routes": [{"gw": "10.1.17.9", "dst": "10.9.0.0/16"}, {"dst": "10.1.0.0/16"}]},
            "runtimeConfig": {"mac": "02:00:00:00:00:01"},
        });
        let env = "FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_IPV6_NETWORK=fd00::/48\nFLANNEL_SUBNET=10.1.17.1/24\n\
             FLANNEL_IPV6_SUBNET=fd00:0:0:17::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n";
        assert_eq!(
            delegate(&conf, env).unwrap(),
            r#"{"cniVersion":"0.3.1","hairpinMode":true,"ipMasq":false,"ipam":{"dataDir":"/d","ranges":[[{"subnet":"10.1.17.0/24"}],[{"subnet":"fd00:0:0:17::/64"}]],"routes":[{"dst":"10.9.0.0/16","gw":"10.1.17.9"},{"dst":"10.1.0.0/16"},{"dst":"fd00::/48"}],"type":"host-local"},"isGateway":false,"mtu":1400,"name":"cbr0","runtimeConfig":{"mac":"02:00:00:00:00:01"},"type":"bridge"}"#
        );
    }

    #[test]
    fn somebody_masquerades() {
        let conf = json!({"name": "cbr0"});
        let env = ENV.replace("IPMASQ=true", "IPMASQ=false");
        assert!(delegate(&conf, &env).unwrap().contains(r#""ipMasq":true"#));
    }

    #[test]
    fn what_flannel_sets_is_refused() {
        for (delegate_conf, message) in [
            (
                json!({"type": 5}),
                "'delegate' dictionary, if present, must have (string) 'type' field",
            ),
            (
                json!({"name": "x"}),
                "'delegate' dictionary must not have 'name' field, it'll be set by flannel",
            ),
            (
                json!({"ipam": {}}),
                "'delegate' dictionary must not have 'ipam' field, it'll be set by flannel",
            ),
        ] {
            let conf = json!({"name": "cbr0", "delegate": delegate_conf});
            assert_eq!(delegate(&conf, ENV).unwrap_err(), message);
        }
        let conf = json!({"name": "cbr0", "ipam": {"routes": [{"dst": "x"}]}});
        assert_eq!(
            delegate(&conf, ENV).unwrap_err(),
            "failed to assemble Delegate IPAM: failed to parse ipam.routes: [0].dst: invalid CIDR address: x"
        );
    }

    #[test]
    fn a_del_knows_enough_without_the_node() {
        let conf = NetConf::parse(br#"{"name": "cbr0", "ipam": {"dataDir": "/d"}}"#).unwrap();
        let delegate = for_del(&conf, &conf.view().unwrap()).unwrap();
        assert_eq!(
            Value::from(delegate),
            json!({"name": "cbr0", "type": "bridge", "ipMasq": true, "ipam": {"dataDir": "/d", "type": "host-local"}})
        );
    }
}
