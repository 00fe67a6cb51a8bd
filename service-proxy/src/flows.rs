//! Tracked flows that lead nowhere any more are forgotten, so that their clients reach other endpoints.
//!
//! Of UDP always; of TCP if that is asked for: the next packet of the client then goes to an endpoint that
//! knows nothing of the connection and resets it.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use kernel::{
    Family,
    conntrack::{self, Handle},
};

use crate::{
    model::{Catalogue, ObjectName, Protocol},
    plan::TrackedServices,
    report::metrics::Metrics,
};

/// Forgets stale flows.
#[derive(Debug)]
pub struct Flows {
    kernel: Handle,
    metrics: Arc<Metrics>,
    protocols: Vec<Protocol>,
    /// Services that have changed since flows were looked at.
    changed: BTreeSet<ObjectName>,
}

// === impl Flows ===

impl Flows {
    /// Works on a kernel; on TCP only if that is to be reset.
    pub fn new(kernel: Handle, metrics: Arc<Metrics>, reset_tcp: bool) -> Self {
        let tcp = reset_tcp.then_some(Protocol::Tcp);
        Self {
            kernel,
            metrics,
            protocols: [Protocol::Udp].into_iter().chain(tcp).collect(),
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
            for protocol in self.protocols.clone() {
                forgotten += self.forget_stale_of(protocol, family, catalogue)?;
            }
        }
        self.changed.clear();
        Ok(forgotten)
    }

    fn forget_stale_of(
        &mut self,
        protocol: Protocol,
        family: Family,
        catalogue: &Catalogue,
    ) -> kernel::Result<usize> {
        let mut services = TrackedServices::new(protocol);
        for name in &self.changed {
            if let Some(service) = catalogue.service(name) {
                services.add(service, catalogue.slices_of(name), family);
            }
        }
        // The table of flows can be large: it is read only where there is something to look for.
        if services.is_empty() {
            return Ok(0);
        }
        let started = Instant::now();
        let mut flows = self.kernel.flows(family, tracked(protocol))?;
        flows.retain(|flow| services.is_stale(flow));
        let deleted = self.kernel.delete(&flows)?;
        let deleted = deleted.into_iter().filter(|deleted| *deleted).count();
        self.metrics
            .flows_scanned(family, started.elapsed(), deleted);
        Ok(deleted)
    }
}

/// A protocol as conntrack has it.
pub const fn tracked(protocol: Protocol) -> conntrack::Protocol {
    match protocol {
        Protocol::Tcp => conntrack::Protocol::Tcp,
        Protocol::Udp => conntrack::Protocol::Udp,
        Protocol::Sctp => conntrack::Protocol::Sctp,
    }
}
