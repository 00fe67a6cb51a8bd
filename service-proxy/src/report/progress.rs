//! How the kernel follows the objects, step by step, for health and metrics.

use std::{sync::Arc, time::Duration};

use kernel::Family;

use super::{
    Occasion,
    health::{Health, Moment},
    metrics::{Kind, Metrics, Scope},
};
use crate::{model::Change, reconcile::Attempt};

/// Takes note of what comes in and of what has been done.
#[derive(Clone, Debug)]
pub struct Progress {
    /// For those who ask.
    pub health: Arc<Health>,
    /// For those who measure.
    pub metrics: Arc<Metrics>,
    node: String,
}

// === impl Progress ===

impl Progress {
    /// Nothing has been done yet. Something that waits for longer than two sync periods is a fault (F30).
    pub fn new(node: impl Into<String>, sync_period: Duration) -> Self {
        Self {
            health: Arc::new(Health::new(sync_period * 2)),
            metrics: Arc::default(),
            node: node.into(),
        }
    }

    /// Objects have changed.
    pub fn changed(&self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Service(..) => self.count(Kind::Service, &Family::ALL),
                Change::EndpointSlice(_, Some(slice)) => {
                    self.count(Kind::Endpoints, &[slice.family]);
                }
                Change::EndpointSlice(_, None) => self.count(Kind::Endpoints, &Family::ALL),
                Change::Node(name, node) if name.name == self.node => {
                    let eligible = node.as_ref().is_some_and(|node| !node.leaving);
                    self.health.set_node_eligible(eligible);
                }
                Change::Node(..) => {}
            }
        }
    }

    /// The kernel is to be made to follow.
    pub fn queued(&self) {
        let now = Moment::now();
        for family in Family::ALL {
            self.health.queued(family, now);
            self.metrics.queued(family, now.time);
        }
    }

    /// The kernel was made to follow, or could not be.
    pub fn synced(&self, occasion: Occasion, attempts: &[Attempt]) {
        let scope = match occasion {
            Occasion::Change(_) => Scope::Partial,
            Occasion::First | Occasion::Resync => Scope::Full,
        };
        let now = Moment::now();
        for attempt in attempts {
            if attempt.succeeded {
                self.health.updated(attempt.family, now);
                self.metrics
                    .synced(attempt.family, scope, attempt.took, now.time);
            } else {
                self.metrics.failed(attempt.family);
            }
        }
    }

    fn count(&self, kind: Kind, families: &[Family]) {
        for family in families {
            self.metrics.changed(kind, *family);
        }
    }
}
