//! What a change comes to, in the order in which nothing is without the other.

use std::net::IpAddr;

use kernel::{ipvs::Change, nft::Transaction};

use crate::plan::nftables::Contest;

/// What has to be done, one after the other.
#[derive(Debug)]
pub struct Step<C = Transaction> {
    /// The rules that virtual servers need.
    pub first: Vec<C>,
    /// The virtual servers.
    pub servers: Vec<Change>,
    /// Addresses that the node needs to have.
    pub bind: Vec<IpAddr>,
    /// Those that it needs no longer.
    pub unbind: Vec<IpAddr>,
    /// The rules that are needed no longer.
    pub last: Vec<C>,
}

/// What a change of Services changes.
#[derive(Debug)]
pub struct Delta<C = Transaction> {
    /// What has to be done.
    pub step: Step<C>,
    /// Addresses that several Services have, where that is new.
    pub contests: Vec<Contest>,
    /// A set has to be made anew: everything has to be compared.
    pub outgrown: bool,
}

// === impl Step ===

impl<C> Step<C> {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
            && self.servers.is_empty()
            && self.bind.is_empty()
            && self.unbind.is_empty()
            && self.last.is_empty()
    }
}

impl<C> Default for Step<C> {
    fn default() -> Self {
        Self {
            first: Vec::new(),
            servers: Vec::new(),
            bind: Vec::new(),
            unbind: Vec::new(),
            last: Vec::new(),
        }
    }
}
