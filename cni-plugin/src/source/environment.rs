//! The `CNI_*` variables (CNI specification 1.1.0, "Parameters").

use std::ffi::OsString;

use crate::model::{Code, Error};

/// The variables as they came; empty where they were not set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// `CNI_COMMAND`: the verb.
    pub command: String,
    /// `CNI_CONTAINERID`
    pub container_id: String,
    /// `CNI_NETNS`: path of the container's network namespace.
    pub netns: String,
    /// `CNI_IFNAME`: the interface's name in the container.
    pub if_name: String,
    /// `CNI_ARGS`
    pub args: String,
    /// `CNI_PATH`: where other plugins are.
    pub path: String,
    /// `CNI_LOG_FILE`: where to log the call; no variable of the specification.
    pub log_file: String,
    /// `CNI_NETNS_OVERRIDE`: the container may be in the plugin's own namespace.
    pub netns_override: String,
}

// === impl Environment ===

impl Environment {
    /// Reads them by `variable`.
    pub fn read(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        let read = |name: &str| {
            let value = variable(name).unwrap_or_default().into_string();
            value.map_err(|value| {
                Error::new(Code::InvalidEnvironment, format!("{name} is not UTF-8"))
                    .with_details(value.to_string_lossy())
            })
        };
        Ok(Self {
            command: read("CNI_COMMAND")?,
            container_id: read("CNI_CONTAINERID")?,
            netns: read("CNI_NETNS")?,
            if_name: read("CNI_IFNAME")?,
            args: read("CNI_ARGS")?,
            path: read("CNI_PATH")?,
            log_file: read("CNI_LOG_FILE")?,
            netns_override: read("CNI_NETNS_OVERRIDE")?,
        })
    }
}
