//! How what stands beside virtual servers is read and written.

use kernel::{Family, iptables::Iptables, nft::Transaction};

use super::{Machine, sets};
use crate::{
    dataplane::{Failure, iptables},
    plan::{
        ipvs::{Guard, GuardChange, ObservedSets, Record, SetsGuard, TableGuard},
        nftables::IPVS_TABLE,
    },
    reconcile::{Nftables, Sent},
};

/// Reads and writes what a guard makes.
pub trait Guarding<G: Guard> {
    /// What stands of a family.
    ///
    /// # Errors
    /// If it can't be read.
    fn observe(&mut self, family: Family) -> Result<G::Observed, Failure>;

    /// Carries out a change, and counts it.
    ///
    /// # Errors
    /// If it is refused.
    fn carry_out(
        &mut self,
        family: Family,
        change: &G::Change,
        sent: &mut Sent,
    ) -> Result<(), Failure>;
}

// === impl Guarding ===

impl<K: Nftables> Guarding<TableGuard> for K {
    fn observe(&mut self, family: Family) -> Result<<TableGuard as Guard>::Observed, Failure> {
        Ok(self.read(family, IPVS_TABLE)?)
    }

    fn carry_out(
        &mut self,
        _: Family,
        change: &Transaction,
        sent: &mut Sent,
    ) -> Result<(), Failure> {
        self.apply(change)?;
        sent.count(change);
        Ok(())
    }
}

impl Guarding<SetsGuard> for Machine {
    fn observe(&mut self, family: Family) -> Result<ObservedSets, Failure> {
        // What is there of the other guard, which this one takes over from.
        let table = self.read(family, IPVS_TABLE)?;
        Ok(ObservedSets {
            sets: sets::read(&mut self.ipset, family)?,
            chains: iptables::observe(self.programs(family)?)?,
            former: Record::read(table.as_ref()),
        })
    }

    fn carry_out(
        &mut self,
        family: Family,
        change: &GuardChange,
        sent: &mut Sent,
    ) -> Result<(), Failure> {
        match change {
            GuardChange::Sets(changes) => {
                self.ipset.apply(changes)?;
                sent.count_members(changes);
            }
            GuardChange::Chains(changes) => {
                self.programs(family)?.restore(&changes.to_string())?;
                sent.count_chains(changes);
            }
        }
        Ok(())
    }
}

impl Machine {
    /// The programs of a family.
    fn programs(&self, family: Family) -> Result<&Iptables, Failure> {
        let mut programs = self.iptables.iter();
        let found = programs.find(|it| it.family() == family);
        found.ok_or_else(|| {
            let command = format!("iptables for {family}");
            kernel::iptables::Error::Missing { command }.into()
        })
    }
}
