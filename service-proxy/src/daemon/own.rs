//! What of Services this program serves, or counts, itself.

use std::collections::BTreeSet;

use kernel::Family;

use super::Daemon;
use crate::{
    localhost::Elsewhere,
    model::ObjectName,
    plan::{Gaps, HealthCheck, loopback_ports, nftables::NodePortAddresses},
    report,
};

// === impl Daemon ===

impl Daemon {
    /// Follows the addresses of the node with what is served by this program itself.
    pub(super) fn settle(&mut self) {
        let around = self.dataplane.surroundings();
        for family in Family::ALL {
            let options = self.settings.rules(family).node_ports;
            let addresses = options.settled(family, around);
            if (&options, &addresses) == (&NodePortAddresses::Primary, &NodePortAddresses::All) {
                report::no_primary_address(&self.node, family);
            }
            let mut own = around.addresses.iter();
            let elsewhere = Elsewhere {
                primary: own.find(|address| Family::of(address) == family).copied(),
                addresses: addresses.clone(),
            };
            self.loopback_ports.set_elsewhere(family, elsewhere);
            self.check_ports.set_addresses(family, addresses);
        }
    }

    /// What of Services is served, or counted, by this program itself.
    pub(super) fn serve(&mut self, services: &BTreeSet<ObjectName>) {
        for name in services {
            let service = self.catalogue.service(name);
            let slices = || self.catalogue.slices_of(name);
            let check = service.and_then(|it| HealthCheck::of(it, slices(), &self.node));
            self.check_ports.set(name, check);
            self.loopback_ports
                .set(name, service.map(loopback_ports).unwrap_or_default());
            let gaps = Family::ALL.map(|family| {
                let gaps = service.map(|it| Gaps::of(it, slices(), family, &self.node));
                gaps.unwrap_or_default()
            });
            self.gaps.set(name, gaps);
        }
        for (family, gaps) in Family::ALL.into_iter().zip(self.gaps.total()) {
            self.progress.metrics.set_no_local_endpoints(family, gaps);
        }
    }
}
