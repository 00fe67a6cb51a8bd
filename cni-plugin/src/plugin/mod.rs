//! The plugins of this binary: each reads, plans and does. A plugin that delegates to another calls it here.

mod bandwidth;
mod bridge;
mod delegate;
mod flannel;
mod host_local;
mod loopback;
mod packet_filters;
mod portmap;
mod reservations;
mod tuning;

use std::ffi::OsStr;

use crate::{
    model::{AddResult, Attachment, Error, NetConf, ValidAttachments},
    source::Environment,
};

/// A plugin of this binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plugin {
    /// Limits what containers receive and send.
    Bandwidth,
    /// Attaches containers to a bridge.
    Bridge,
    /// Asks the flannel agent what to delegate to another plugin.
    Flannel,
    /// Gives out addresses.
    HostLocal,
    /// Brings up the container's `lo`.
    Loopback,
    /// Leads ports of the node into containers.
    Portmap,
    /// Changes settings of the container's interface and network namespace.
    Tuning,
}

// === impl Plugin ===

impl Plugin {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Bandwidth,
        Self::Bridge,
        Self::Flannel,
        Self::HostLocal,
        Self::Loopback,
        Self::Portmap,
        Self::Tuning,
    ];

    /// The name that runtimes and configuration know it by.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bandwidth => "bandwidth",
            Self::Bridge => "bridge",
            Self::Flannel => "flannel",
            Self::HostLocal => "host-local",
            Self::Loopback => "loopback",
            Self::Portmap => "portmap",
            Self::Tuning => "tuning",
        }
    }

    /// The plugin of a name.
    pub fn by_name(name: &OsStr) -> Option<Self> {
        Self::ALL.into_iter().find(|plugin| plugin.name() == name)
    }

    /// Makes an attachment, or leaves everything as it was. A plugin that is not the first one of its chain
    /// answers with `prevResult` and what it made itself.
    pub fn add(
        self,
        environment: &Environment,
        attachment: &Attachment,
        conf: &NetConf,
    ) -> Result<AddResult, Error> {
        match self {
            Self::Bandwidth => bandwidth::add(attachment, conf),
            Self::Bridge => bridge::add(environment, attachment, conf),
            Self::Flannel => flannel::add(environment, attachment, conf),
            Self::HostLocal => host_local::add(attachment, conf),
            Self::Loopback => loopback::add(attachment, conf),
            Self::Portmap => portmap::add(attachment, conf),
            Self::Tuning => tuning::add(attachment, conf),
        }
    }

    /// Removes what is there of an attachment; all is well if nothing is.
    pub fn del(
        self,
        environment: &Environment,
        attachment: &Attachment,
        conf: &NetConf,
    ) -> Result<(), Error> {
        match self {
            Self::Bandwidth => bandwidth::del(attachment, conf),
            Self::Bridge => bridge::del(environment, attachment, conf),
            Self::Flannel => flannel::del(environment, attachment, conf),
            Self::HostLocal => host_local::del(attachment, conf),
            Self::Loopback => loopback::del(attachment),
            Self::Portmap => portmap::del(attachment, conf),
            Self::Tuning => tuning::del(attachment, conf),
        }
    }

    /// Whether all that the ADD made is still there; the error names what is not.
    pub fn check(
        self,
        environment: &Environment,
        attachment: &Attachment,
        conf: &NetConf,
    ) -> Result<(), Error> {
        match self {
            Self::Bandwidth => bandwidth::check(attachment, conf),
            Self::Bridge => bridge::check(environment, attachment, conf),
            Self::Flannel => flannel::check(environment, attachment, conf),
            Self::HostLocal => reservations::check(attachment, conf),
            Self::Loopback => loopback::check(attachment),
            Self::Portmap => portmap::check(attachment, conf),
            Self::Tuning => tuning::check(attachment, conf),
        }
    }

    /// Removes what is left of attachments that are not in use any more. What can't be read is kept.
    pub fn gc(
        self,
        environment: &Environment,
        valid: &ValidAttachments,
        conf: &NetConf,
    ) -> Result<(), Error> {
        match self {
            Self::Bandwidth => bandwidth::gc(valid, conf),
            Self::Bridge => bridge::gc(environment, valid, conf),
            Self::Flannel => flannel::gc(environment, valid, conf),
            Self::HostLocal => reservations::gc(valid, conf),
            // Nothing of it is outside of the container's namespace.
            Self::Loopback => Ok(()),
            Self::Portmap => portmap::gc(valid, conf),
            Self::Tuning => tuning::gc(valid, conf),
        }
    }

    /// Whether an ADD could succeed now. Changes nothing: runtimes ask every few seconds.
    pub fn status(self, environment: &Environment, conf: &NetConf) -> Result<(), Error> {
        match self {
            Self::Bridge => bridge::status(environment, conf),
            Self::Flannel => flannel::status(environment, conf),
            Self::HostLocal => reservations::status(conf),
            // What they need, they make.
            Self::Bandwidth | Self::Loopback | Self::Portmap | Self::Tuning => Ok(()),
        }
    }
}
