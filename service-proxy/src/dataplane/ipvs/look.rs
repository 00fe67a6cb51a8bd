//! What stands in the kernel, for those who only look at it.

use std::{collections::BTreeSet, net::IpAddr};

use ::kernel::{ipvs::Handle, route};

use super::{
    Machine, Standing, ending::Ending, kernel::find, kernel::name, mode::NotReady, observe,
};
use crate::plan::ipvs::{Observed, Plan};

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
    /// If the kernel has no IPVS, or can't be asked.
    pub fn open() -> Result<Self, NotReady> {
        let mut machine = Machine::open(Handle::open()?)?;
        let standing = Standing::read(&mut machine)?;
        Ok(Self { machine, standing })
    }

    /// The node's addresses on other interfaces than ours.
    pub fn node(&self) -> &BTreeSet<IpAddr> {
        &self.standing.addresses.others
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
    pub fn observe(&mut self, plan: &Plan) -> ::kernel::Result<Observed> {
        observe(&mut self.machine, plan, &self.standing, &Ending::new(None))
    }
}
