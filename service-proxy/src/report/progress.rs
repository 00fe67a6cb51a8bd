//! How the kernel follows the objects, step by step, for health and metrics.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use kernel::Family;

use super::{
    Occasion,
    health::{Health, Moment},
    metrics::{Kind, Metrics, Scope},
};
use crate::{dataplane::Failure, model::Change, reconcile::Outcome};

/// Takes note of what comes in and of what has been done.
#[derive(Debug)]
pub struct Progress {
    /// For those who ask.
    pub health: Arc<Health>,
    /// For those who measure.
    pub metrics: Arc<Metrics>,
    node: String,
    started: Timestamp,
    /// When that happened which the kernel does not follow yet.
    triggers: Vec<(Family, Timestamp)>,
}

// === impl Progress ===

impl Progress {
    /// Nothing has been done yet. Something that waits for longer than two sync periods is a fault (F30).
    pub fn new(node: impl Into<String>, sync_period: Duration) -> Self {
        Self {
            health: Arc::new(Health::new(sync_period * 2)),
            metrics: Arc::default(),
            node: node.into(),
            started: Timestamp::now(),
            triggers: Vec::new(),
        }
    }

    /// Objects have changed.
    pub fn changed(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Service(..) => self.count(Kind::Service, &Family::ALL),
                Change::EndpointSlice(_, Some(slice)) => {
                    self.count(Kind::Endpoints, &[slice.family]);
                    // What happened before the start was not for this process to follow.
                    let trigger = slice.triggered.filter(|at| *at > self.started);
                    self.triggers.extend(trigger.map(|at| (slice.family, at)));
                }
                Change::EndpointSlice(_, None) => self.count(Kind::Endpoints, &Family::ALL),
                Change::Node(name, node) if *name.name == *self.node => {
                    let eligible = node.as_ref().is_some_and(|node| !node.leaving);
                    self.health.set_node_eligible(eligible);
                }
                Change::Node(..) | Change::ServiceCidr(..) => {}
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

    /// The kernel was made to follow, or could not be; in some families it kept what is needed no longer.
    pub fn synced(&mut self, occasion: Occasion, outcome: &Outcome) {
        let scope = match occasion {
            Occasion::Change(_) | Occasion::Ended => Scope::Partial,
            Occasion::First | Occasion::Resync | Occasion::Switch(_) => Scope::Full,
        };
        let now = Moment::now();
        for family in &outcome.left_over {
            self.metrics.clean_up_failed(*family);
        }
        for family in &outcome.refused {
            self.metrics.restore_failed(*family, Scope::Partial);
        }
        for count in &outcome.rules {
            self.metrics.set_rules(*count);
        }
        let by_iptables = outcome
            .failures
            .iter()
            .any(|it| matches!(it, Failure::Iptables(_)));
        for attempt in &outcome.attempts {
            if attempt.succeeded {
                self.health.updated(attempt.family, now);
                self.metrics
                    .synced(attempt.family, scope, attempt.took, now.time);
                self.programmed(attempt.family, now.time);
            } else if by_iptables {
                self.metrics.restore_failed(attempt.family, Scope::Full);
            } else {
                self.metrics.failed(attempt.family);
            }
        }
    }

    /// Everything of a family that has happened is in the kernel.
    fn programmed(&mut self, family: Family, now: Timestamp) {
        for (_, at) in self.triggers.extract_if(.., |(of, _)| *of == family) {
            // The clocks of two machines differ.
            let took = now.duration_since(at).try_into().unwrap_or_default();
            self.metrics.programmed(family, took);
        }
    }

    fn count(&self, kind: Kind, families: &[Family]) {
        for family in families {
            self.metrics.changed(kind, *family);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use crate::{
        model::{EndpointSlice, ObjectName},
        reconcile::Attempt,
    };

    use super::*;

    fn slice(triggered: Option<Timestamp>) -> Change {
        let name = ObjectName::new("shop", "web-1");
        let slice = EndpointSlice {
            name: name.clone(),
            service: ObjectName::new("shop", "web"),
            family: Family::V4,
            ports: Vec::new(),
            endpoints: Vec::new(),
            triggered,
        };
        Change::EndpointSlice(name, Some(Arc::new(slice)))
    }

    fn outcome(succeeded: bool) -> Outcome {
        let attempts = Family::ALL.map(|family| Attempt {
            family,
            took: Duration::from_millis(1),
            succeeded,
        });
        Outcome {
            attempts: attempts.into(),
            ..Outcome::default()
        }
    }

    #[test]
    fn what_happened_since_the_start_is_measured_once_it_is_in_the_kernel() {
        let mut progress = Progress::new("n1", Duration::from_secs(30));
        let measured = |progress: &Progress| {
            let text = progress.metrics.text().unwrap();
            let count = "network_programming_duration_seconds_count{ip_family=\"IPv4\"} ";
            let line = text.lines().find_map(|line| line.split(count).nth(1));
            line.map_or(0, |number| number.parse::<u32>().unwrap())
        };
        let before = progress.started - Duration::from_secs(5);
        let after = progress.started + Duration::from_nanos(1);
        progress.changed(&[slice(None), slice(Some(before)), slice(Some(after))]);
        progress.synced(Occasion::Change(1), &outcome(false));
        assert_eq!(measured(&progress), 0);
        for _ in 0..2 {
            progress.synced(Occasion::Change(1), &outcome(true));
            assert_eq!(measured(&progress), 1);
        }
    }
}
