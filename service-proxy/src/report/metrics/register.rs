//! The names and descriptions of all metrics.

use kernel::Family;
use prometheus_client::{
    metrics::{
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::Registry,
};

use super::{Metrics, code, of};
use crate::{
    plan::Gaps,
    report::{accounting::Accounting, process::Process},
};

// === impl Metrics ===

impl Metrics {
    pub(super) fn register(&mut self) {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Process));
        // Not `kubernetes_build_info`, whose version is that of a Kubernetes.
        registry.register(
            "service_proxy_build",
            "Version and commit of the program",
            Info::new(release::labels()),
        );
        registry.register_collector(Box::new(Accounting));
        let proxy = registry.sub_registry_with_prefix("kubeproxy");
        self.register_histograms(proxy);
        self.register_counters(proxy);
        self.register_gauges(proxy);
        self.registry = registry;
    }

    fn register_histograms(&self, proxy: &mut Registry) {
        for (name, metric, help) in [
            (
                "sync_proxy_rules_duration_seconds",
                &self.syncs,
                "How long it took to make the kernel follow, in seconds",
            ),
            (
                "sync_full_proxy_rules_duration_seconds",
                &self.full_syncs,
                "The same, where all of the kernel's state was compared",
            ),
            (
                "sync_partial_proxy_rules_duration_seconds",
                &self.partial_syncs,
                "The same, where only what had to change was sent",
            ),
            (
                "network_programming_duration_seconds",
                &self.programming,
                "Time from a change in the cluster until the kernel had it, in seconds",
            ),
            (
                "conntrack_reconciler_sync_duration_seconds",
                &self.flow_scans,
                "How long it took to look through the table of flows, in seconds",
            ),
        ] {
            proxy.register(name, help, metric.clone());
        }
    }

    /// The encoding adds the `_total` of a counter.
    fn register_counters(&self, proxy: &mut Registry) {
        for (name, metric, help) in [
            (
                "sync_proxy_rules_nftables_sync_failures",
                &self.failures,
                "How often the kernel could not be made to follow",
            ),
            (
                "sync_proxy_rules_nftables_cleanup_failures",
                &self.clean_up_failures,
                "How often chains and sets that are needed no longer could not be removed",
            ),
            (
                "sync_proxy_rules_iptables_restore_failures",
                &self.restore_failures,
                "How often the tables of iptables could not be written",
            ),
            (
                "sync_proxy_rules_iptables_partial_restore_failures",
                &self.partial_restore_failures,
                "How often a change of some chains was refused, and everything was compared",
            ),
            (
                "sync_proxy_rules_service_changes",
                &self.services.total,
                "Changes of Services",
            ),
            (
                "sync_proxy_rules_endpoint_changes",
                &self.endpoints.total,
                "Changes of EndpointSlices",
            ),
            (
                "proxy_healthz",
                &self.healthz,
                "Answers of /healthz by status",
            ),
            ("proxy_livez", &self.livez, "Answers of /livez by status"),
            (
                "conntrack_reconciler_deleted_entries",
                &self.flows_deleted,
                "Flows that were forgotten",
            ),
        ] {
            proxy.register(name, help, metric.clone());
        }
    }

    fn register_gauges(&self, proxy: &mut Registry) {
        for (name, metric, help) in [
            (
                "sync_proxy_rules_last_timestamp_seconds",
                &self.synced,
                "When the kernel was last made to follow, in seconds since 1970",
            ),
            (
                "sync_proxy_rules_last_queued_timestamp_seconds",
                &self.queued,
                "When something was last to be put into the kernel, in seconds since 1970",
            ),
        ] {
            proxy.register(name, help, metric.clone());
        }
        for (name, metric, help) in [
            (
                "sync_proxy_rules_service_changes_pending",
                &self.services.pending,
                "Changes of Services that the kernel does not have yet",
            ),
            (
                "sync_proxy_rules_endpoint_changes_pending",
                &self.endpoints.pending,
                "Changes of EndpointSlices that the kernel does not have yet",
            ),
        ] {
            proxy.register(name, help, metric.clone());
        }
        for (name, metric, help) in [
            (
                "sync_proxy_rules_no_local_endpoints_total",
                &self.no_local_endpoints,
                "Service ports whose traffic policy asks for endpoints on this node, where there is none",
            ),
            (
                "sync_proxy_rules_iptables_total",
                &self.rules,
                "Rules of iptables that stand for Services, by table",
            ),
            (
                "sync_proxy_rules_iptables_last",
                &self.rules_last,
                "Rules of iptables that were written in the last sync, by table",
            ),
        ] {
            proxy.register(name, help, metric.clone());
        }
    }

    /// A counter that is there from the start shows its first increase.
    pub(super) fn zero(&self) {
        for family in Family::ALL {
            let labels = of(family);
            for counters in [
                &self.failures,
                &self.clean_up_failures,
                &self.restore_failures,
                &self.partial_restore_failures,
                &self.flows_deleted,
            ] {
                drop(counters.get_or_create(&labels));
            }
            for changes in [&self.services, &self.endpoints] {
                drop(changes.total.get_or_create(&labels));
                drop(changes.pending.get_or_create(&labels));
            }
            self.set_no_local_endpoints(family, Gaps::default());
        }
        for counters in [&self.healthz, &self.livez] {
            for healthy in [true, false] {
                drop(counters.get_or_create(&code(healthy)));
            }
        }
    }
}

/// Of the duration of a sync, in seconds.
pub(super) fn sync_buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

/// Of the time from a change in the cluster until the kernel has it, in seconds.
pub(super) fn programming_buckets() -> Histogram {
    let steps = |from: u32, to: u32, step: usize| (from..=to).step_by(step).map(f64::from);
    let fast = [0.25, 0.5].into_iter();
    Histogram::new(
        fast.chain(steps(1, 59, 1))
            .chain(steps(60, 115, 5))
            .chain(steps(120, 300, 30)),
    )
}
