//! What stands in the kernel, for those who only look at it.

use std::{collections::BTreeSet, net::IpAddr};

use ::kernel::{iptables::Backend, ipvs::Handle, route};

use super::{
    Filter, Guarding, Kernel, Machine, Standing, ending::Ending, kernel::find, kernel::name,
    mode::NotReady, observe,
};
use crate::{
    dataplane::Failure,
    plan::ipvs::{Guard, Observed, Plan},
};

/// What stands of virtual servers and addresses.
#[derive(Debug)]
pub struct Look {
    machine: Machine,
    standing: Standing,
}

// === impl Look ===

impl Look {
    /// Reads virtual servers and addresses of both families.
    ///
    /// # Errors
    /// If the kernel has no IPVS, or can't be asked; or if there are no programs of iptables where they are needed.
    pub fn open(filter: Filter) -> Result<Self, Failure> {
        let ipvs = Handle::open().map_err(NotReady::from)?;
        let mut machine = Machine::open(ipvs, filter.programs()?)?;
        let standing = Standing::read(&mut machine)?;
        Ok(Self { machine, standing })
    }

    /// The node's addresses on other interfaces than ours.
    pub fn node(&self) -> &BTreeSet<IpAddr> {
        &self.standing.addresses.others
    }

    /// The kind of iptables whose tables have chains of ours.
    pub fn iptables(&self) -> Option<Backend> {
        self.machine.iptables()
    }

    /// Whether the interface for the addresses of Services is there.
    ///
    /// # Errors
    /// If the kernel can't be asked.
    pub fn has_interface(&self) -> ::kernel::Result<bool> {
        Ok(find(&mut route::Handle::open()?, &name()?)?.is_some())
    }

    /// What stands of the family of a plan, as far as it is ours.
    ///
    /// # Errors
    /// If the kernel can't be asked.
    pub fn observe<G: Guard>(&mut self, plan: &Plan<G>) -> Result<Observed<G::Observed>, Failure>
    where
        Machine: Guarding<G>,
    {
        observe(&mut self.machine, plan, &self.standing, &Ending::new(None))
    }
}
