//! What is counted and measured, under kube-proxy's names (service-proxy 1.5), so that dashboards and alerts
//! go on to work. Those of other dataplanes and of Go are not among them.

mod register;

use std::{fmt, sync::atomic::AtomicU64, time::Duration};

use jiff::Timestamp;
use kernel::Family;
use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, family::Family as Labelled, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use self::register::{programming_buckets, sync_buckets};
use crate::{plan::Gaps, reconcile::RuleCount};

/// Media type of what [`Metrics::text`] yields.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels<const N: usize> = [(&'static str, &'static str); N];
type Seconds = Gauge<f64, AtomicU64>;
type Histograms = Labelled<Labels<1>, Histogram, fn() -> Histogram>;

/// All that is counted and measured.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    syncs: Histograms,
    full_syncs: Histograms,
    partial_syncs: Histograms,
    synced: Labelled<Labels<1>, Seconds>,
    queued: Labelled<Labels<1>, Seconds>,
    failures: Labelled<Labels<1>, Counter>,
    clean_up_failures: Labelled<Labels<1>, Counter>,
    restore_failures: Labelled<Labels<1>, Counter>,
    partial_restore_failures: Labelled<Labels<1>, Counter>,
    rules: Labelled<Labels<2>, Gauge>,
    rules_last: Labelled<Labels<2>, Gauge>,
    programming: Histograms,
    services: Changes,
    endpoints: Changes,
    no_local_endpoints: Labelled<Labels<2>, Gauge>,
    healthz: Labelled<Labels<1>, Counter>,
    livez: Labelled<Labels<1>, Counter>,
    flow_scans: Histograms,
    flows_deleted: Labelled<Labels<1>, Counter>,
}

/// Changes of a kind of objects.
#[derive(Clone, Debug, Default)]
struct Changes {
    pending: Labelled<Labels<1>, Gauge>,
    total: Labelled<Labels<1>, Counter>,
}

/// A kind of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Services.
    Service,
    /// Lists of their endpoints.
    Endpoints,
}

/// How much of the kernel was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All of it.
    Full,
    /// What had to change.
    Partial,
}

/// Which of the two is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// `/healthz`.
    Healthz,
    /// `/livez`.
    Livez,
}

// === impl Metrics ===

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            syncs: Labelled::new_with_constructor(sync_buckets),
            full_syncs: Labelled::new_with_constructor(sync_buckets),
            partial_syncs: Labelled::new_with_constructor(sync_buckets),
            synced: Labelled::default(),
            queued: Labelled::default(),
            failures: Labelled::default(),
            clean_up_failures: Labelled::default(),
            restore_failures: Labelled::default(),
            partial_restore_failures: Labelled::default(),
            rules: Labelled::default(),
            rules_last: Labelled::default(),
            programming: Labelled::new_with_constructor(programming_buckets),
            services: Changes::default(),
            endpoints: Changes::default(),
            no_local_endpoints: Labelled::default(),
            healthz: Labelled::default(),
            livez: Labelled::default(),
            flow_scans: Labelled::new_with_constructor(sync_buckets),
            flows_deleted: Labelled::default(),
        };
        metrics.register();
        metrics.zero();
        metrics
    }
}

impl Metrics {
    /// A change of an object came in.
    pub fn changed(&self, kind: Kind, family: Family) {
        let changes = self.changes(kind);
        changes.total.get_or_create(&of(family)).inc();
        changes.pending.get_or_create(&of(family)).inc();
    }

    /// Something is to be put into the kernel.
    pub fn queued(&self, family: Family, now: Timestamp) {
        self.queued.get_or_create(&of(family)).set(seconds(now));
    }

    /// The kernel was made to follow.
    pub fn synced(&self, family: Family, scope: Scope, took: Duration, now: Timestamp) {
        let by_scope = match scope {
            Scope::Full => &self.full_syncs,
            Scope::Partial => &self.partial_syncs,
        };
        for histograms in [&self.syncs, by_scope] {
            histograms
                .get_or_create(&of(family))
                .observe(took.as_secs_f64());
        }
        self.synced.get_or_create(&of(family)).set(seconds(now));
        for kind in [Kind::Service, Kind::Endpoints] {
            self.changes(kind).pending.get_or_create(&of(family)).set(0);
        }
    }

    /// The kernel could not be made to follow.
    pub fn failed(&self, family: Family) {
        self.failures.get_or_create(&of(family)).inc();
    }

    /// The tables of iptables could not be written, all that differed or only what had to change.
    pub fn restore_failed(&self, family: Family, scope: Scope) {
        let failures = match scope {
            Scope::Full => &self.restore_failures,
            Scope::Partial => &self.partial_restore_failures,
        };
        failures.get_or_create(&of(family)).inc();
    }

    /// So many rules are there in a table of iptables, and so many were written at last.
    pub fn set_rules(&self, count: RuleCount) {
        let labels = [("ip_family", name(count.family)), ("table", count.table)];
        for (gauge, rules) in [
            (&self.rules, count.total),
            (&self.rules_last, count.written),
        ] {
            gauge
                .get_or_create(&labels)
                .set(i64::try_from(rules).unwrap_or(i64::MAX));
        }
    }

    /// What changed so long ago in the cluster is in the kernel now.
    pub fn programmed(&self, family: Family, took: Duration) {
        self.programming
            .get_or_create(&of(family))
            .observe(took.as_secs_f64());
    }

    /// So many Service ports ask for endpoints on this node and have some elsewhere only.
    pub fn set_no_local_endpoints(&self, family: Family, gaps: Gaps) {
        for (internal, ports) in [(true, gaps.internal), (false, gaps.external)] {
            self.no_local_endpoints
                .get_or_create(&no_local(family, internal))
                .set(i64::try_from(ports).unwrap_or(i64::MAX));
        }
    }

    /// What is needed no longer could not be taken out of the kernel.
    pub fn clean_up_failed(&self, family: Family) {
        self.clean_up_failures.get_or_create(&of(family)).inc();
    }

    /// Somebody asked for health and was answered with a status.
    pub fn probed(&self, probe: Probe, healthy: bool) {
        let counters = match probe {
            Probe::Healthz => &self.healthz,
            Probe::Livez => &self.livez,
        };
        counters.get_or_create(&code(healthy)).inc();
    }

    /// The table of flows was looked through.
    pub fn flows_scanned(&self, family: Family, took: Duration, deleted: usize) {
        self.flow_scans
            .get_or_create(&of(family))
            .observe(took.as_secs_f64());
        self.flows_deleted
            .get_or_create(&of(family))
            .inc_by(deleted as u64);
    }

    /// Everything as [`MEDIA_TYPE`].
    ///
    /// # Errors
    /// If the process can't be looked at.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    fn changes(&self, kind: Kind) -> &Changes {
        match kind {
            Kind::Service => &self.services,
            Kind::Endpoints => &self.endpoints,
        }
    }
}

const fn of(family: Family) -> Labels<1> {
    [("ip_family", name(family))]
}

const fn name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

const fn no_local(family: Family, internal: bool) -> Labels<2> {
    let policy = if internal { "internal" } else { "external" };
    [("ip_family", name(family)), ("traffic_policy", policy)]
}

const fn code(healthy: bool) -> Labels<1> {
    [("code", if healthy { "200" } else { "503" })]
}

fn seconds(time: Timestamp) -> f64 {
    time.as_duration().as_secs_f64()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn names_and_labels_are_kube_proxys() {
        let metrics = Metrics::default();
        let now = Timestamp::from_second(1_767_225_600).unwrap();
        metrics.changed(Kind::Service, Family::V4);
        metrics.queued(Family::V4, now);
        metrics.failed(Family::V6);
        metrics.programmed(Family::V4, Duration::from_millis(700));
        let gaps = Gaps {
            internal: 2,
            external: 0,
        };
        metrics.set_no_local_endpoints(Family::V4, gaps);
        metrics.probed(Probe::Healthz, false);
        metrics.flows_scanned(Family::V4, Duration::from_millis(3), 4);
        let text = metrics.text().unwrap();
        for line in [
            "kubeproxy_sync_proxy_rules_service_changes_total{ip_family=\"IPv4\"} 1",
            "kubeproxy_sync_proxy_rules_service_changes_pending{ip_family=\"IPv4\"} 1",
            "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family=\"IPv4\"} 1767225600.0",
            "kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family=\"IPv6\"} 1",
            "kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family=\"IPv4\"} 0",
            "kubeproxy_network_programming_duration_seconds_bucket{le=\"0.5\",ip_family=\"IPv4\"} 0",
            "kubeproxy_network_programming_duration_seconds_bucket{le=\"1.0\",ip_family=\"IPv4\"} 1",
            "kubeproxy_network_programming_duration_seconds_bucket{le=\"115.0\",ip_family=\"IPv4\"} 1",
            "kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family=\"IPv4\",traffic_policy=\"internal\"} 2",
            "kubeproxy_proxy_healthz_total{code=\"503\"} 1",
            "kubeproxy_proxy_livez_total{code=\"200\"} 0",
            "kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family=\"IPv4\"} 4",
        ] {
            assert!(text.lines().any(|it| it == line), "no {line} in:\n{text}");
        }
        assert!(
            text.lines()
                .any(|line| line.starts_with("process_resident_memory_bytes "))
        );
    }

    #[test]
    fn what_is_in_the_kernel_is_pending_no_longer() {
        let metrics = Metrics::default();
        let now = Timestamp::from_second(1).unwrap();
        for (scope, count) in [(Scope::Full, 1), (Scope::Partial, 2)] {
            metrics.changed(Kind::Endpoints, Family::V6);
            metrics.synced(Family::V6, scope, Duration::from_millis(3), now);
            let text = metrics.text().unwrap();
            for line in [
                "kubeproxy_sync_proxy_rules_endpoint_changes_pending{ip_family=\"IPv6\"} 0"
                    .to_owned(),
                format!(
                    "kubeproxy_sync_proxy_rules_duration_seconds_count{{ip_family=\"IPv6\"}} {count}"
                ),
                format!(
                    "kubeproxy_sync_proxy_rules_duration_seconds_bucket{{le=\"0.004\",ip_family=\"IPv6\"}} {count}"
                ),
                "kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family=\"IPv6\"} 1"
                    .to_owned(),
            ] {
                assert!(text.lines().any(|it| it == line), "no {line} in:\n{text}");
            }
        }
    }
}
