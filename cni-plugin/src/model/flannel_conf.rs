//! The configuration of the flannel plugin.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::net_conf::null_is_default;

/// Keys of the flannel plugin.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct FlannelConf {
    /// The file that the agent writes.
    #[serde(default = "default_subnet_file")]
    pub subnet_file: PathBuf,
    /// Where delegates' configurations are kept from ADD to DEL.
    #[serde(default = "default_data_dir")]
    pub data_dir: PathBuf,
    /// Keys for the delegate's configuration.
    #[serde(default, deserialize_with = "null_is_default")]
    pub delegate: Map<String, Value>,
    /// Keys for the delegate's `ipam`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub ipam: Map<String, Value>,
    /// What the runtime adds; passed on to the delegate.
    #[serde(default)]
    pub runtime_config: Option<Map<String, Value>>,
}

fn default_subnet_file() -> PathBuf {
    "/run/flannel/subnet.env".into()
}

fn default_data_dir() -> PathBuf {
    "/var/lib/cni/flannel".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_in_the_reference() {
        reference::every_key_is_documented("flannel", &reference::keys::<FlannelConf>());
    }
}
