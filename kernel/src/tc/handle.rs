//! The way into the kernel.

use super::{
    Change, Redirect, Tbf,
    message::{self, Place},
};
use crate::{
    Error, Result,
    netlink::{self, Socket},
    route::IfIndex,
};

/// What packets pass at an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Qdisc {
    /// A token bucket.
    Tbf(Tbf),
    /// A place for filters of what arrives.
    Ingress,
    /// A place for filters of what arrives and of what leaves.
    Clsact,
    /// Anything else, by its kind.
    Other(String),
}

/// Reads and changes traffic control in one network namespace.
#[derive(Debug)]
pub struct Handle {
    socket: Socket,
}

// === impl Handle ===

netlink::opens!(Handle, Route);

impl Handle {
    /// What is at the root of an interface; `None` if it is the kernel's default.
    pub fn root(&mut self, interface: IfIndex) -> Result<Option<Qdisc>> {
        self.qdisc(interface, Place::Root, "root")
    }

    /// What place for filters of arriving packets an interface has, if it has one.
    pub fn ingress(&mut self, interface: IfIndex) -> Result<Option<Qdisc>> {
        self.qdisc(interface, Place::Ingress, "ingress")
    }

    /// Every redirection of all that arrives at an interface.
    pub fn redirects(&mut self, interface: IfIndex) -> Result<Vec<Redirect>> {
        self.socket
            .dump_parsed(&message::get_filters(interface), message::parse_redirect)
            .map_err(|error| {
                let attempted = format!("tc filter show dev {interface} ingress");
                Error::new(attempted, error)
            })
    }

    /// Carries out changes in one system call; fails with the first refusal, when all have been tried.
    pub fn apply(&mut self, changes: &[Change]) -> Result<()> {
        let requests: Vec<_> = changes.iter().map(|change| change.to_request()).collect();
        let outcomes = self
            .socket
            .batch(&requests)
            .map_err(|error| Error::new(format!("apply {} tc changes", changes.len()), error))?;
        outcomes
            .into_iter()
            .zip(changes)
            .try_for_each(|(outcome, change)| {
                outcome.map_err(|error| Error::new(change.to_string(), error))
            })
    }

    fn qdisc(&mut self, on: IfIndex, place: Place, name: &str) -> Result<Option<Qdisc>> {
        match self.socket.get(&message::get_qdisc(on, place)) {
            Ok(replies) => Ok(replies
                .iter()
                .find_map(|reply| message::parse_qdisc(&reply.body))),
            Err(error) if error.errno() == Some(nix::errno::Errno::ENOENT) => Ok(None),
            Err(error) => Err(Error::new(format!("tc qdisc show dev {on} {name}"), error)),
        }
    }
}
