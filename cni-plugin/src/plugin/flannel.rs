//! The flannel plugin: asks the agent's file where this node's pods belong, and lets another plugin do the
//! rest.

use serde_json::{Map, Value};

use super::{Plugin, delegate::Delegate};
use crate::{
    model::{AddResult, Attachment, Code, Error, FlannelConf, NetConf, ValidAttachments},
    plan::{self, hashed_name::hashed},
    source::{self, Environment, Scratch},
};

/// Letters of a network's mark: enough that the few networks of a node all have another.
const MARK_LEN: usize = 16;

/// Delegates with the node's subnets; what was delegated is saved before anything is made.
pub fn add(
    environment: &Environment,
    attachment: &Attachment,
    conf: &NetConf,
) -> Result<AddResult, Error> {
    let flannel: FlannelConf = conf.view()?;
    let env = source::read_subnet_env(&flannel.subnet_file)?;
    let object = plan::delegate::for_add(conf, &flannel, &env).map_err(Error::config)?;
    let plugin = plugin_of(environment, &object)?;
    let scratch = scratch_of(attachment, conf, &flannel);
    let before = scratch.load()?;
    scratch.save(&object)?;
    let added = plugin.add(environment, attachment, &conf.for_delegate(object));
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
pub fn del(
    environment: &Environment,
    attachment: &Attachment,
    conf: &NetConf,
) -> Result<(), Error> {
    let flannel: FlannelConf = conf.view()?;
    let scratch = scratch_of(attachment, conf, &flannel);
    let by_conf = || plan::delegate::for_del(conf, &flannel).map_err(Error::config);
    match scratch.load()? {
        // All interfaces of a container have one file: this is that of another network's.
        Some(object) if object.get("name") != Some(&conf.name().into()) => {
            delegate_del(environment, attachment, conf, by_conf()?)
        }
        Some(object) => {
            delegate_del(environment, attachment, conf, object)?;
            scratch.remove()
        }
        None => {
            delegate_del(environment, attachment, conf, by_conf()?)?;
            scratch.remove()
        }
    }
}

/// Has the delegate look, by what the ADD delegated with; where that is lost, by what an ADD would delegate
/// with today.
pub fn check(
    environment: &Environment,
    attachment: &Attachment,
    conf: &NetConf,
) -> Result<(), Error> {
    let flannel: FlannelConf = conf.view()?;
    conf.required_prev_result()?;
    let saved = scratch_of(attachment, conf, &flannel)
        .load()?
        .filter(|object| object.get("name") == Some(&conf.name().into()));
    let object = match saved {
        Some(object) => object,
        None => {
            let env = source::read_subnet_env(&flannel.subnet_file)?;
            plan::delegate::for_add(conf, &flannel, &env).map_err(Error::config)?
        }
    };
    let plugin = plugin_of(environment, &object)?;
    plugin.check(environment, attachment, &conf.for_delegate(object))
}

/// Has the delegate clean up, then forgets what was delegated for containers that are gone.
pub fn gc(
    environment: &Environment,
    valid: &ValidAttachments,
    conf: &NetConf,
) -> Result<(), Error> {
    let flannel: FlannelConf = conf.view()?;
    let object = plan::delegate::for_del(conf, &flannel).map_err(Error::config)?;
    plugin_of(environment, &object)?.gc(environment, valid, &conf.for_delegate(object))?;
    let is_in_use = |id: &str| valid.contains_container(id);
    Scratch::remove_left(&flannel.data_dir, conf.name(), &mark(conf), is_in_use)
}

/// An ADD can succeed once the agent has written its file, if the delegate can.
pub fn status(environment: &Environment, conf: &NetConf) -> Result<(), Error> {
    let flannel: FlannelConf = conf.view()?;
    source::read_subnet_env(&flannel.subnet_file).map_err(|error| Error {
        code: Code::NotAvailable,
        ..error
    })?;
    let object = plan::delegate::for_del(conf, &flannel).map_err(Error::config)?;
    plugin_of(environment, &object)?.status(environment, &conf.for_delegate(object))
}

fn scratch_of(attachment: &Attachment, conf: &NetConf, flannel: &FlannelConf) -> Scratch {
    Scratch::of(attachment, &mark(conf), &flannel.data_dir)
}

/// The network in a few letters: its name may be as long as a file name can be.
fn mark(conf: &NetConf) -> String {
    hashed(MARK_LEN, "", conf.name())
}

fn delegate_del(
    environment: &Environment,
    attachment: &Attachment,
    conf: &NetConf,
    object: Map<String, Value>,
) -> Result<(), Error> {
    plugin_of(environment, &object)?.del(environment, attachment, &conf.for_delegate(object))
}

fn plugin_of(environment: &Environment, object: &Map<String, Value>) -> Result<Delegate, Error> {
    let name = object
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    Delegate::find(name, Plugin::Bridge, environment)
}
