//! `/metrics`, in the text format of Prometheus. docs/overlay.md says what each is for.

use std::{
    fmt::{self, Write},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64},
    },
};

use kernel::{Family, route::Change};
use prometheus_client::{
    collector::Collector,
    encoding::{
        DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric, LabelValueEncoder, text,
    },
    metrics::{
        counter::Counter,
        family::Family as Labelled,
        gauge::{ConstGauge, Gauge},
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};
use tokio::time::Instant;

/// Counts what the agent does. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    known: Gauge<i64, AtomicI64>,
    invalid: Gauge<i64, AtomicI64>,
    programmed: Labelled<Of, Gauge<i64, AtomicI64>>,
    repaired: Labelled<Kind, Counter<u64, AtomicU64>>,
    changes: Labelled<Kind, Counter<u64, AtomicU64>>,
    writes: Counter<u64, AtomicU64>,
    losses: Counter<u64, AtomicU64>,
    errors: Counter<u64, AtomicU64>,
    to_kernel: Histogram,
    moments: Mutex<Moments>,
}

/// Since when things are as they are.
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    lease_written: Option<Instant>,
    /// Since when leases are not followed; from the start on, until they are for the first time.
    source_behind: Option<Instant>,
    /// When the first change came that is not in the kernel yet.
    received: Option<Instant>,
}

/// Ages grow while nothing happens, so they are computed when they are asked for.
#[derive(Debug)]
struct Ages(Metrics);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    family: Label,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: Label,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Label(&'static str);

/// The kinds of what stands in the kernel.
const KINDS: [&str; 6] = ["link", "address", "route", "neighbour", "fdb", "rules"];

// === impl Metrics ===

impl Metrics {
    /// How many leases there are, and how many entries are none.
    pub fn leases(&self, known: usize, invalid: usize) {
        self.inner.known.set(number(known));
        self.inner.invalid.set(number(invalid));
    }

    /// How many other nodes of a family all stands in the kernel for.
    pub fn programmed(&self, family: Family, peers: usize) {
        let of = Of {
            family: Label(family_label(family)),
        };
        let programmed = &self.inner.programmed;
        programmed.get_or_create(&of).set(number(peers));
    }

    /// A change was carried out; it is a repair if nothing but the kernel had changed.
    pub fn changed(&self, change: &Change, is_repair: bool) {
        self.count(kind(change), 1, is_repair);
    }

    /// Rules of the packet filter were changed.
    pub fn rules_changed(&self, changes: u64, is_repair: bool) {
        self.count("rules", changes, is_repair);
    }

    /// The lease was written; also when it was there already, at the start.
    pub fn lease_written(&self) {
        self.inner.writes.inc();
        self.moments().lease_written = Some(Instant::now());
    }

    /// The lease was lost to somebody.
    pub fn lease_lost(&self) {
        self.inner.losses.inc();
    }

    /// A request to etcd or Kubernetes failed.
    pub fn source_failed(&self) {
        self.inner.errors.inc();
    }

    /// The leases are not followed any more.
    pub fn source_behind(&self) {
        self.moments()
            .source_behind
            .get_or_insert_with(Instant::now);
    }

    /// The leases are followed as they change.
    pub fn source_followed(&self) {
        self.moments().source_behind = None;
    }

    /// Leases changed.
    pub fn received(&self) {
        self.moments().received.get_or_insert_with(Instant::now);
    }

    /// All that was received is in the kernel.
    pub fn applied(&self) {
        if let Some(received) = self.moments().received.take() {
            self.inner
                .to_kernel
                .observe(received.elapsed().as_secs_f64());
        }
    }

    /// All metrics, in the text format.
    ///
    /// # Errors
    /// When a text can't be made, which does not happen in memory.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut registry = Registry::with_prefix("flannel_agent");
        self.register(&mut registry);
        let mut text = String::new();
        text::encode(&mut text, &registry)?;
        Ok(text)
    }

    fn register(&self, registry: &mut Registry) {
        let it = &self.inner;
        registry.register(
            "build",
            "Version and commit of the program",
            Info::new(release::labels()),
        );
        registry.register("leases_known", "Leases of all nodes", it.known.clone());
        registry.register(
            "leases_invalid",
            "Entries among the leases that are none",
            it.invalid.clone(),
        );
        registry.register(
            "peers_programmed",
            "Other nodes that all stands in the kernel for",
            it.programmed.clone(),
        );
        registry.register(
            "drift_repaired",
            "What was put right in the kernel though no lease had changed",
            it.repaired.clone(),
        );
        registry.register(
            "kernel_changes",
            "What was changed in the kernel, for whatever reason",
            it.changes.clone(),
        );
        registry.register(
            "lease_writes",
            "How often this node's lease was taken or renewed",
            it.writes.clone(),
        );
        registry.register(
            "lease_losses",
            "How often this node's lease was gone or overwritten",
            it.losses.clone(),
        );
        registry.register(
            "source_errors",
            "Requests to etcd or Kubernetes that failed",
            it.errors.clone(),
        );
        registry.register_with_unit(
            "event_to_kernel",
            "Time from a change of leases until the kernel agrees with it",
            Unit::Seconds,
            it.to_kernel.clone(),
        );
        registry.register_collector(Box::new(Ages(self.clone())));
    }

    fn count(&self, kind: &'static str, changes: u64, is_repair: bool) {
        let kind = Kind { kind: Label(kind) };
        self.inner.changes.get_or_create(&kind).inc_by(changes);
        if is_repair {
            self.inner.repaired.get_or_create(&kind).inc_by(changes);
        }
    }

    fn moments(&self) -> MutexGuard<'_, Moments> {
        let moments = self.inner.moments.lock();
        moments.unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Inner ===

impl Default for Inner {
    /// All that can be counted is there from the start, as 0.
    fn default() -> Self {
        let inner = Self {
            known: Gauge::default(),
            invalid: Gauge::default(),
            programmed: Labelled::default(),
            repaired: Labelled::default(),
            changes: Labelled::default(),
            writes: Counter::default(),
            losses: Counter::default(),
            errors: Counter::default(),
            // 0.5 ms to 16 s.
            to_kernel: Histogram::new(exponential_buckets(0.000_5, 2.0, 16)),
            moments: Mutex::new(Moments {
                source_behind: Some(Instant::now()),
                ..Moments::default()
            }),
        };
        for kind in KINDS {
            let kind = Kind { kind: Label(kind) };
            drop(inner.repaired.get_or_create(&kind));
            drop(inner.changes.get_or_create(&kind));
        }
        inner
    }
}

// === impl Ages ===

impl Collector for Ages {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let moments = *self.0.moments();
        let age = |since: Instant| since.elapsed().as_secs_f64();
        let mut gauge = |name: &str, help: &str, value: f64| {
            let gauge = ConstGauge::new(value);
            let kind = gauge.metric_type();
            gauge.encode(encoder.encode_descriptor(name, help, Some(&Unit::Seconds), kind)?)
        };
        if let Some(written) = moments.lease_written {
            gauge(
                "lease_age",
                "Time since this node's lease was written",
                age(written),
            )?;
        }
        gauge(
            "source_lag",
            "How long leases have not been followed; 0 while they are",
            moments.source_behind.map_or(0.0, age),
        )
    }
}

// === impl Label ===

impl EncodeLabelValue for Label {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        encoder.write_str(self.0)
    }
}

const fn family_label(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}

const fn kind(change: &Change) -> &'static str {
    match change {
        Change::AddLink(_) | Change::SetLink(..) | Change::DeleteLink(_) => "link",
        Change::ReplaceAddress(_) | Change::DeleteAddress(_) => "address",
        Change::ReplaceRoute(_) | Change::ReplaceRouteWith(..) | Change::DeleteRoute(_) => "route",
        Change::ReplaceNeighbour(_) | Change::DeleteNeighbour(_) => "neighbour",
        Change::ReplaceFdb(_) | Change::DeleteFdb(_) => "fdb",
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_told() {
        let metrics = Metrics::default();
        metrics.leases(3, 1);
        metrics.programmed(Family::V4, 2);
        metrics.changed(&Change::DeleteLink(kernel::route::IfIndex(7)), true);
        metrics.rules_changed(5, false);
        metrics.lease_written();
        metrics.received();
        metrics.applied();
        metrics.applied();
        metrics.source_followed();
        let text = metrics.encode().unwrap();
        for line in [
            "flannel_agent_leases_known 3",
            "flannel_agent_leases_invalid 1",
            r#"flannel_agent_peers_programmed{family="ipv4"} 2"#,
            r#"flannel_agent_drift_repaired_total{kind="link"} 1"#,
            r#"flannel_agent_drift_repaired_total{kind="rules"} 0"#,
            r#"flannel_agent_kernel_changes_total{kind="rules"} 5"#,
            "flannel_agent_lease_writes_total 1",
            "flannel_agent_event_to_kernel_seconds_count 1",
            "flannel_agent_source_lag_seconds 0.0",
        ] {
            assert!(text.lines().any(|it| it == line), "no {line} in\n{text}");
        }
        assert!(
            text.contains("\nflannel_agent_lease_age_seconds "),
            "{text}"
        );
    }

    #[test]
    fn the_source_lags_until_it_is_followed() {
        let metrics = Metrics::default();
        let lag = || {
            let text = metrics.encode().unwrap();
            let line = text
                .lines()
                .find_map(|it| it.strip_prefix("flannel_agent_source_lag_seconds "));
            line.unwrap().parse::<f64>().unwrap()
        };
        assert!(lag() > 0.0);
        metrics.source_followed();
        assert_eq!(lag(), 0.0);
        metrics.source_behind();
        assert!(lag() > 0.0);
    }
}
