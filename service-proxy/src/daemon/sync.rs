//! An attempt to let the kernel follow: what is told of it, and when the next one is made.

use std::time::{Duration, Instant};

use kernel::memory;

use super::Daemon;
use crate::{
    dataplane::Dataplane,
    model::Catalogue,
    reconcile::Outcome,
    report::{self, Happening, Occasion},
};

/// How soon after a failure the next attempt is made; each further one waits twice as long, up to the sync
/// period.
const RETRY: Duration = Duration::from_secs(1);

// === impl Daemon ===

impl Daemon {
    pub(super) fn sync(
        &mut self,
        occasion: Occasion,
        work: impl FnOnce(&mut dyn Dataplane, &Catalogue) -> Outcome,
    ) {
        let occasion = if self.starting {
            Occasion::First
        } else {
            occasion
        };
        self.progress.queued();
        let started = Instant::now();
        let outcome = work(&mut *self.dataplane, &self.catalogue);
        let ended = Instant::now();
        // Who reads the log and asks then is to be told the same.
        self.progress.synced(occasion, &outcome);
        report::synced(occasion, &outcome, &self.catalogue, ended - started);
        if !outcome.failures.is_empty() {
            self.look_at = ended + retry_after(self.failures, self.settings.sync_period);
            self.failures = self.failures.saturating_add(1);
            return;
        }
        // A change alone puts the next full comparison off only where it made one.
        let partial = matches!(occasion, Occasion::Change(_) | Occasion::Ended);
        if self.failures > 0 || !partial {
            self.look_at = ended + self.settings.sync_period;
        }
        if self.starting {
            // Not before: the kernel's module for tracked flows comes with the first rules that need it.
            self.tune();
            self.starting = false;
        }
        self.failures = 0;
        report::forgot(&self.flows.forget_stale(&self.catalogue));
        if !partial {
            // The whole table, as it is and as it should be, needed more than all that stays.
            memory::give_back();
        }
    }

    /// Sets what of the machine is to be set.
    pub(super) fn tune(&self) {
        if let Some(error) = self.settings.tuning.apply() {
            self.events.tell(Happening::ReadOnly(error.to_string()));
        }
    }
}

/// How long to wait after so many failures in a row before.
fn retry_after(failures: u32, sync_period: Duration) -> Duration {
    RETRY.saturating_mul(1 << failures.min(16)).min(sync_period)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_less_and_less_often() {
        let minute = Duration::from_secs(60);
        let waits: Vec<_> = (0..8)
            .map(|failures| retry_after(failures, minute).as_secs())
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(retry_after(u32::MAX, minute), minute);
    }
}
