//! What a person gets to see: one line for each change of the kernel, none where nothing changed.

use std::{fmt, time::Duration};

use kernel::Family;

use crate::{
    configuration::Settings,
    dataplane::{Failure, Mode},
    model::Catalogue,
    reconcile::{Outcome, Rewritten, Sent},
};

/// Why the kernel was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// The program has started; what stands in the kernel is taken over.
    First,
    /// Objects changed, and with them so many Services.
    Change(usize),
    /// It was time, or the last attempt had failed.
    Resync,
    /// Endpoints that are gone may have lost their last connection.
    Ended,
    /// Another mode, of this name, takes over.
    Switch(&'static str),
}

// === impl Occasion ===

impl fmt::Display for Occasion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First => f.write_str("first sync"),
            Self::Change(services) => write!(f, "{services} Services changed"),
            Self::Resync => f.write_str("repaired what had drifted"),
            Self::Ended => f.write_str("connections have ended"),
            Self::Switch(mode) => write!(f, "{mode} mode takes over"),
        }
    }
}

// === impl Sent ===

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Rewritten {
            written,
            removed,
            jumps,
        }) = self.rewritten
        {
            return write!(
                f,
                "{written} chains written, {removed} removed, {jumps} jumps added or removed"
            );
        }
        write!(
            f,
            "{} elements added, {} deleted, {} other commands",
            self.added, self.deleted, self.others
        )?;
        match (self.servers, self.addresses) {
            (0, 0) => Ok(()),
            (servers, addresses) => write!(
                f,
                ", {servers} changes of virtual and real servers, {addresses} of addresses"
            ),
        }
    }
}

/// Tells what came of a sync that took so long.
pub fn synced(occasion: Occasion, outcome: &Outcome, catalogue: &Catalogue, took: Duration) {
    for contest in &outcome.contests {
        tracing::warn!("{contest}");
    }
    for failure in &outcome.failures {
        tracing::error!("{occasion}: {failure}; {}", failure.advice());
    }
    let is_news = match occasion {
        Occasion::First | Occasion::Switch(_) => outcome.failures.is_empty(),
        Occasion::Change(_) | Occasion::Resync | Occasion::Ended => !outcome.sent.is_empty(),
    };
    if is_news {
        tracing::info!(
            "{occasion}: {}; {} Services, {} EndpointSlices in all, {:.1} ms",
            outcome.sent,
            catalogue.services(),
            catalogue.slices(),
            took.as_secs_f64() * 1e3
        );
    }
}

/// Warns that NodePorts are served on more addresses than they should be.
pub fn no_primary_address(node: &str, family: Family) {
    tracing::warn!(
        "Node {node} has no {family} address in its status: nodePortAddresses \"primary\" stands for all \
         {family} addresses until it has one"
    );
}

/// Tells what a person should know of the configuration.
pub fn warnings(warnings: &[String]) {
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}

/// Tells that nothing can be done before the API server says more of the node.
pub fn waits(node: &str) {
    tracing::info!(
        "detectLocalMode: NodeCIDR: waits for the podCIDRs of Node {node}; until then, what stands in the \
         kernel stays as it is"
    );
}

/// Tells that a new text of the configuration's file is in force, and what of it is not.
pub fn reloaded(before: &Settings, after: &Settings) {
    tracing::info!("--config: the file has changed; what it says now is in force");
    for (same, keys) in [
        (
            before.kubeconfig == after.kubeconfig,
            "clientConnection.kubeconfig",
        ),
        (before.hostname == after.hostname, "hostnameOverride"),
        (
            before.bindings == after.bindings,
            "healthzBindAddress, metricsBindAddress, bindAddressHardFail",
        ),
        (
            before.external_ips == after.external_ips,
            "featureGates.AllowServiceExternalIPs",
        ),
        (before.verbosity == after.verbosity, "logging.verbosity"),
        (before.log_format == after.log_format, "logging.format"),
    ] {
        if !same {
            tracing::warn!("--config: {keys}: the change is in force after a restart");
        }
    }
}

/// Tells that a new text of the configuration's file is of no use.
pub fn not_reloaded(wrong: &str) {
    tracing::error!(
        "the configuration has changed, and is not followed: {wrong}; what it said before stays in force"
    );
}

/// Tells that the mode of a new text of the configuration's file can't be had.
pub fn not_switched(wanted: &Mode, in_force: &Mode, why: &str) {
    tracing::error!(
        "--config: mode: {} can't take over: {why}; what the file said before stays in force, with mode {}; it \
         is tried again every sync period",
        wanted.name(),
        in_force.name()
    );
}

/// Warns that what another mode or kube-proxy has left is still there.
pub fn others_remain(failure: &Failure) {
    tracing::warn!(
        "remove what another mode or kube-proxy has left: {failure}; it is out of date from now on, and \
         connections may follow it; it is tried again every sync period, and --cleanup removes it too"
    );
}

/// Tells that it is not known what others have changed.
pub fn not_watched(error: &kernel::Error) {
    tracing::error!("{error}; everything is compared with the kernel now");
}

/// Tells how many tracked flows were forgotten, if any.
pub fn forgot(outcome: &kernel::Result<usize>) {
    match outcome {
        Ok(0) => {}
        Ok(flows) => tracing::info!("forgot {flows} flows to endpoints that serve no longer"),
        Err(error) => tracing::error!(
            "forget flows to endpoints that serve no longer: {error}; until the next sync, clients with \
             such flows may get no answer; the kernel needs nf_conntrack_netlink, and this program \
             CAP_NET_ADMIN"
        ),
    }
}
