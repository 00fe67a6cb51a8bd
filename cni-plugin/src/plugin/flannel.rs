//! The flannel plugin: asks the agent's file where this node's pods belong, and lets another plugin do the
//! rest.

use serde_json::{Map, Value};

use super::{Plugin, delegate};
use crate::{
    model::{AddResult, Attachment, Code, Error, FlannelConf, NetConf},
    plan,
    source::{self, Scratch},
};

/// Delegates with the node's subnets; what was delegated is saved before anything is made.
pub fn add(attachment: &Attachment, conf: &NetConf) -> Result<AddResult, Error> {
    let flannel: FlannelConf = conf.view()?;
    let env = source::read_subnet_env(&flannel.subnet_file)?;
    let object = plan::delegate::for_add(conf, &flannel, &env).map_err(Error::config)?;
    let plugin = plugin_of(&object)?;
    let scratch = Scratch::of(attachment, &flannel.data_dir);
    let before = scratch.load()?;
    scratch.save(&object)?;
    let added = plugin.add(attachment, &conf.for_delegate(object));
    added.map_err(|error| {
        // A second ADD of what is there fails, and must not cost the first one its file.
        let restored = match before {
            Some(object) => scratch.save(&object),
            None => scratch.remove(),
        };
        match restored {
            Ok(()) => error,
            Err(left) => error.with_details(left.to_string()),
        }
    })
}

/// Delegates with what the ADD delegated with; where that is lost, with what the configuration still says.
pub fn del(attachment: &Attachment, conf: &NetConf) -> Result<(), Error> {
    let flannel: FlannelConf = conf.view()?;
    let scratch = Scratch::of(attachment, &flannel.data_dir);
    let by_conf = || plan::delegate::for_del(conf, &flannel).map_err(Error::config);
    match scratch.load()? {
        // All interfaces of a container have one file: this is that of another network's.
        Some(object) if object.get("name") != Some(&conf.name().into()) => {
            delegate_del(attachment, conf, by_conf()?)
        }
        Some(object) => {
            delegate_del(attachment, conf, object)?;
            scratch.remove()
        }
        None => {
            delegate_del(attachment, conf, by_conf()?)?;
            scratch.remove()
        }
    }
}

/// An ADD can succeed once the agent has written its file.
pub fn status(conf: &NetConf) -> Result<(), Error> {
    let flannel: FlannelConf = conf.view()?;
    source::read_subnet_env(&flannel.subnet_file)
        .map(|_| ())
        .map_err(|error| Error {
            code: Code::NotAvailable,
            ..error
        })
}

fn delegate_del(
    attachment: &Attachment,
    conf: &NetConf,
    object: Map<String, Value>,
) -> Result<(), Error> {
    plugin_of(&object)?.del(attachment, &conf.for_delegate(object))
}

fn plugin_of(object: &Map<String, Value>) -> Result<Plugin, Error> {
    let name = object
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    delegate("delegate.type", name, Plugin::Bridge)
}
