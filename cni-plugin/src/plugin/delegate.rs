//! The plugin that another one hands a part of its work to: one of this binary by a function call, any
//! other by executing it.

use serde_json::Value;

use super::Plugin;
use crate::{
    model::{AddResult, Attachment, Error, NetConf, SpecVersion, ValidAttachments},
    source::{Environment, ForeignPlugin},
};

/// A plugin that is delegated to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delegate {
    /// One of this binary.
    Own(Plugin),
    /// One to be executed.
    Foreign(ForeignPlugin),
}

// === impl Delegate ===

impl Delegate {
    /// The plugin of a name. Only `own` is called inside this process: what it needs to know goes along.
    pub fn find(name: &str, own: Plugin, environment: &Environment) -> Result<Self, Error> {
        if name == own.name() {
            Ok(Self::Own(own))
        } else {
            ForeignPlugin::find(name, environment).map(Self::Foreign)
        }
    }

    /// Makes its part of an attachment, or leaves nothing: a foreign plugin that fails is asked to clean up.
    pub fn add(
        &self,
        environment: &Environment,
        attachment: &Attachment,
        conf: &NetConf,
    ) -> Result<AddResult, Error> {
        match self {
            Self::Own(plugin) => plugin.add(environment, attachment, conf),
            Self::Foreign(plugin) => plugin
                .call("ADD", environment, conf)
                .and_then(|printed| read(&printed.unwrap_or_default(), conf))
                .map_err(|error| match plugin.call("DEL", environment, conf) {
                    Ok(_) => error,
                    Err(left) => error.with_details(format!("and it could not be undone: {left}")),
                }),
        }
    }

    /// Removes its part of an attachment.
    pub fn del(
        &self,
        environment: &Environment,
        attachment: &Attachment,
        conf: &NetConf,
    ) -> Result<(), Error> {
        match self {
            Self::Own(plugin) => plugin.del(environment, attachment, conf),
            Self::Foreign(plugin) => plugin.call("DEL", environment, conf).map(drop),
        }
    }

    /// Whether its part is as it was made.
    pub fn check(
        &self,
        environment: &Environment,
        attachment: &Attachment,
        conf: &NetConf,
    ) -> Result<(), Error> {
        match self {
            Self::Own(plugin) => plugin.check(environment, attachment, conf),
            Self::Foreign(plugin) => plugin.call("CHECK", environment, conf).map(drop),
        }
    }

    /// Removes what is left of attachments that are not in use any more.
    pub fn gc(
        &self,
        environment: &Environment,
        valid: &ValidAttachments,
        conf: &NetConf,
    ) -> Result<(), Error> {
        match self {
            Self::Own(plugin) => plugin.gc(environment, valid, conf),
            Self::Foreign(plugin) => plugin.call("GC", environment, conf).map(drop),
        }
    }

    /// Whether it could serve an ADD now.
    pub fn status(&self, environment: &Environment, conf: &NetConf) -> Result<(), Error> {
        match self {
            Self::Own(plugin) => plugin.status(environment, conf),
            Self::Foreign(plugin) => plugin.call("STATUS", environment, conf).map(drop),
        }
    }
}

/// A result in the version that it names, or else in the configuration's.
fn read(printed: &Value, conf: &NetConf) -> Result<AddResult, Error> {
    let named = printed.get("cniVersion").and_then(Value::as_str);
    let version = SpecVersion::of_conf(named.unwrap_or(conf.version()))?;
    AddResult::parse(printed, version, "the delegate's result")
}
