//! Another mode takes over in the middle of everything: it has all that there is before the old one goes, and if it
//! can't be had, the old one stays.

use std::time::Instant;

use super::{Daemon, effective};
use crate::{
    configuration::{Configuration, Settings},
    dataplane::{Dataplane, Failure, Mode},
    drift::{CannotWatch, Drift},
    model::{ObjectKind, ObjectName},
    report::{self, Occasion},
};

/// A configuration that is not in force, as its mode could not be had; it is tried again every sync period.
#[derive(Debug)]
pub(super) struct Deferred {
    configuration: Configuration,
    settings: Settings,
    /// Why; told once.
    told: String,
    /// Not before.
    again_at: Instant,
}

/// Why another mode could not take over.
#[derive(Debug, thiserror::Error)]
enum NotSwitched {
    /// It can't be opened, or not be given all that there is.
    #[error("{0}; {advice}", advice = .0.advice())]
    Dataplane(#[from] Failure),
    /// What others change can't be watched.
    #[error(transparent)]
    Drift(#[from] CannotWatch),
}

// === impl Daemon ===

impl Daemon {
    /// Puts a configuration in force; the old one stays where the mode of the new one can't be had.
    pub(super) fn put_in_force(&mut self, configuration: Configuration, settings: Settings) {
        let told = self.deferred.take().map(|deferred| deferred.told);
        let switched = settings.mode != self.settings.mode;
        if switched && let Err(why) = self.switch(&settings) {
            let why = why.to_string();
            if told.as_ref() != Some(&why) {
                report::not_switched(&settings.mode, &self.settings.mode, &why);
            }
            self.deferred = Some(Deferred {
                configuration,
                settings,
                told: why,
                again_at: self.next_attempt(),
            });
            return;
        }
        report::reloaded(&self.settings, &settings);
        let configuration = effective(configuration, &settings.mode);
        self.adopt(settings);
        self.configuration.send_replace(configuration);
        self.remove_others();
    }

    /// Tries once more what could not be put in force.
    pub(super) fn retry_deferred(&mut self) {
        let due = |it: &&Deferred| it.again_at <= Instant::now();
        if let Some(deferred) = self.deferred.as_ref().filter(due) {
            let (configuration, settings) =
                (deferred.configuration.clone(), deferred.settings.clone());
            self.put_in_force(configuration, settings);
        }
    }

    /// Removes what other modes have left, if that is still to be done. What this program serves by itself is
    /// there by then.
    pub(super) fn remove_others(&mut self) {
        let due = self.others_at.is_some_and(|at| at <= Instant::now());
        if self.starting || !due {
            return;
        }
        self.loopback_ports.settle();
        self.others_at = match self.settings.mode.remove_others(&*self.dataplane) {
            Ok(all) => (!all).then(|| self.next_attempt()),
            Err(failure) => {
                report::others_remain(&failure);
                Some(self.next_attempt())
            }
        };
    }

    /// When to try again what is tried every sync period: what others change makes everything be looked at in
    /// between.
    fn next_attempt(&self) -> Instant {
        Instant::now() + self.settings.sync_period / 2
    }

    /// Lets the mode of some settings take over.
    fn switch(&mut self, settings: &Settings) -> Result<(), NotSwitched> {
        let rules = |family| settings.rules(family);
        let mut next = settings.mode.open(&self.node, rules)?;
        if self.starting || settings.mode.is_kin(&self.settings.mode) {
            // It takes over what stands, and what it can't do now is done as after any failure.
            self.pending.extend(self.all_services());
            self.watching = false;
        } else {
            match self.hand_over(&mut *next, &settings.mode) {
                Ok(drift) => self.drift = drift,
                Err(why) => {
                    let chains = next.iptables();
                    if chains.is_some() && chains == self.dataplane.iptables() {
                        // Both write chains of the same names.
                        self.sync(Occasion::Resync, |dataplane, _| dataplane.resync());
                    }
                    undo(&settings.mode, &*self.dataplane);
                    return Err(why);
                }
            }
            self.watching = true;
        }
        self.dataplane = next;
        self.others_at = Some(Instant::now());
        self.failures = 0;
        self.look_at = Instant::now();
        Ok(())
    }

    /// Gives everything that there is to the dataplane that is to take over; answers with its way to tell of what
    /// others change.
    fn hand_over(
        &mut self,
        next: &mut dyn Dataplane,
        mode: &Mode,
    ) -> Result<Option<Drift>, NotSwitched> {
        let services = self.all_services().collect();
        let started = Instant::now();
        let mut outcome = next.update(&self.catalogue, &services);
        if let Some(failure) = outcome.failures.pop() {
            return Err(failure.into());
        }
        let occasion = Occasion::Switch(mode.name());
        report::synced(occasion, &outcome, &self.catalogue, started.elapsed());
        self.progress.queued();
        self.progress.synced(occasion, &outcome);
        Ok(next.watch()?)
    }

    fn all_services(&self) -> impl Iterator<Item = ObjectName> + use<> {
        let keys = self.catalogue.keys(ObjectKind::Service);
        let names: Vec<_> = keys.map(|key| key.name().clone()).collect();
        names.into_iter()
    }
}

/// Takes back what a mode has done that has not taken over from a dataplane.
fn undo(mode: &Mode, staying: &dyn Dataplane) {
    if let Err(failure) = mode.clean_up(staying) {
        tracing::warn!(
            "mode: remove what {} has got already: {failure}; it is removed when it is tried again and fails, or \
             by --cleanup",
            mode.name()
        );
    }
}
