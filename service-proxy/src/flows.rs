//! Tracked UDP flows that lead nowhere any more are forgotten, so that their clients reach other endpoints.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use kernel::{
    Family,
    conntrack::{Handle, Protocol},
};

use crate::{
    model::{Catalogue, ObjectName},
    plan::UdpServices,
    report::metrics::Metrics,
};

/// Forgets stale flows.
#[derive(Debug)]
pub struct Flows {
    kernel: Handle,
    metrics: Arc<Metrics>,
    /// Services that have changed since flows were looked at.
    changed: BTreeSet<ObjectName>,
}

// === impl Flows ===

impl Flows {
    /// Works on a kernel.
    pub fn new(kernel: Handle, metrics: Arc<Metrics>) -> Self {
        Self {
            kernel,
            metrics,
            changed: BTreeSet::new(),
        }
    }

    /// Services have changed.
    pub fn note(&mut self, services: &BTreeSet<ObjectName>) {
        self.changed.extend(services.iter().cloned());
    }

    /// Forgets the stale flows of the Services that have changed, and answers with their number. To be called
    /// when new connections go where they should: else a flow could come back as it was.
    ///
    /// # Errors
    /// If the kernel refuses; the next call tries again.
    pub fn forget_stale(&mut self, catalogue: &Catalogue) -> kernel::Result<usize> {
        let mut forgotten = 0;
        for family in Family::ALL {
            let mut services = UdpServices::default();
            for name in &self.changed {
                if let Some(service) = catalogue.service(name) {
                    services.add(service, catalogue.slices_of(name), family);
                }
            }
            // The table of flows can be large: it is read only where there is something to look for.
            if services.is_empty() {
                continue;
            }
            let started = Instant::now();
            let mut flows = self.kernel.flows(family, Protocol::Udp)?;
            flows.retain(|flow| services.is_stale(flow));
            let deleted = self.kernel.delete(&flows)?;
            let deleted = deleted.into_iter().filter(|deleted| *deleted).count();
            self.metrics
                .flows_scanned(family, started.elapsed(), deleted);
            forgotten += deleted;
        }
        self.changed.clear();
        Ok(forgotten)
    }
}
