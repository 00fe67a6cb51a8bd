//! Events in the cluster, where kube-proxy writes them (service-proxy F29, F36): with its reasons and its name,
//! so that alerts on them go on to work.
//!
//! They are written beside everything else, a few at the most, and nothing waits for them.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, api::PostParams};
use tokio::sync::mpsc;

use crate::model::ObjectName;

/// How many wait to be written at the most.
const WAITING: usize = 32;
/// How many are written at once at the most, and how long it takes until there may be one more.
const BURST: u32 = 25;
const INTERVAL: Duration = Duration::from_secs(60);
/// How often it is tried to write one, and how long to wait in between (as client-go does).
const ATTEMPTS: u32 = 12;
const RETRY: Duration = Duration::from_secs(10);
/// How long an attempt may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest note that the API server takes, in bytes.
const LONGEST: usize = 1024;

/// Something that has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// The program has started.
    Started,
    /// A Service's `healthCheckNodePort` can't be served.
    NoHealthCheck(ObjectName, String),
    /// `/healthz` can't be served.
    NoHealth(String),
    /// Settings of the machine can't be changed, as `/proc/sys` is read-only.
    ReadOnly(String),
}

/// Where happenings are told; with a source other than the API server nowhere.
#[derive(Clone, Debug, Default)]
pub struct Events {
    queue: Option<mpsc::Sender<Happening>>,
}

/// Writes them.
struct Writer {
    client: Client,
    node: String,
    budget: Budget,
    /// Whether it was said that none can be written.
    is_refused: bool,
}

/// How many may be written now.
#[derive(Debug)]
struct Budget {
    left: u32,
    since: Instant,
}

// === impl Events ===

impl Events {
    /// Events of a node's proxy, by a client. To be called in a runtime.
    pub fn start(client: Client, node: &str) -> Self {
        let (queue, told) = mpsc::channel(WAITING);
        let writer = Writer {
            client,
            node: node.to_owned(),
            budget: Budget::new(Instant::now()),
            is_refused: false,
        };
        tokio::spawn(writer.run(told));
        Self { queue: Some(queue) }
    }

    /// Takes note of something; never waits.
    pub fn tell(&self, happening: Happening) {
        let Some(queue) = &self.queue else {
            return;
        };
        if let Err(error) = queue.try_send(happening) {
            tracing::debug!("an Event is left out: {error}");
        }
    }
}

// === impl Writer ===

impl Writer {
    async fn run(mut self, mut told: mpsc::Receiver<Happening>) {
        while let Some(happening) = told.recv().await {
            if self.budget.take(Instant::now()) {
                self.write(&event(&happening, &self.node, Timestamp::now()))
                    .await;
            } else {
                tracing::debug!("too many Events: {happening:?} is left out");
            }
        }
    }

    /// Writes one; what the server refuses is told of once.
    async fn write(&mut self, event: &Event) {
        let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
        let events: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        for _ in 0..ATTEMPTS {
            let parameters = PostParams::default();
            let written = events.create(&parameters, event);
            match tokio::time::timeout(PATIENCE, written).await {
                // 409: an attempt that seemed to fail did not.
                Ok(Ok(_)) => return,
                Ok(Err(kube::Error::Api(status))) if status.code == 409 => return,
                Ok(Err(kube::Error::Api(status))) if (400..429).contains(&status.code) => {
                    if !std::mem::replace(&mut self.is_refused, true) {
                        tracing::warn!(
                            "write an Event to namespace {namespace}: {} ({} {}); goes on without; the cluster \
                             role needs the verb create for events.events.k8s.io",
                            status.message,
                            status.code,
                            status.reason
                        );
                    }
                    return;
                }
                Ok(Err(error)) => tracing::debug!("write an Event: {error}; tried again"),
                Err(_) => tracing::debug!("write an Event: no answer; tried again"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

// === impl Budget ===

impl Budget {
    fn new(now: Instant) -> Self {
        Self {
            left: BURST,
            since: now,
        }
    }

    /// Whether there may be one more.
    fn take(&mut self, now: Instant) -> bool {
        while self.left < BURST && now.duration_since(self.since) >= INTERVAL {
            self.left += 1;
            self.since += INTERVAL;
        }
        if self.left == BURST {
            self.since = now;
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

/// The Event that tells of something, in kube-proxy's words.
fn event(happening: &Happening, node: &str, now: Timestamp) -> Event {
    let (kind, reason, action, note) = match happening {
        Happening::Started => ("Normal", "Starting", "StartKubeProxy", ""),
        Happening::NoHealthCheck(_, note) => (
            "Warning",
            "FailedToStartServiceHealthcheck",
            "Listen",
            note.as_str(),
        ),
        Happening::NoHealth(note) => (
            "Warning",
            "FailedToStartProxierHealthcheck",
            "StartKubeProxy",
            note.as_str(),
        ),
        Happening::ReadOnly(note) => ("Warning", "readOnlySysFS", "StartKubeProxy", note.as_str()),
    };
    let regarding = match happening {
        Happening::NoHealthCheck(service, _) => reference("Service", service, &service.to_string()),
        _ => reference("Node", &ObjectName::new("", node), node),
    };
    let namespace = regarding.namespace.clone();
    let name = regarding.name.as_deref().unwrap_or_default();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{name}.{:x}", now.as_nanosecond())),
            namespace: Some(namespace.unwrap_or_else(|| "default".to_owned())),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        reporting_controller: Some("kube-proxy".to_owned()),
        reporting_instance: Some(format!("kube-proxy-{node}")),
        type_: Some(kind.to_owned()),
        reason: Some(reason.to_owned()),
        action: Some(action.to_owned()),
        note: Some(cut(note).to_owned()).filter(|note| !note.is_empty()),
        regarding: Some(regarding),
        ..Event::default()
    }
}

fn reference(kind: &str, name: &ObjectName, uid: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some(kind.to_owned()),
        name: Some(name.name.to_string()),
        namespace: Some(name.namespace.to_string()).filter(|it| !it.is_empty()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    }
}

fn cut(note: &str) -> &str {
    let end = (0..=note.len().min(LONGEST)).rev();
    let mut end = end.filter(|end| note.is_char_boundary(*end));
    &note[..end.next().unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_at_once_and_then_one_a_minute() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        let taken = |budget: &mut Budget, now| (0..100).filter(|_| budget.take(now)).count();
        assert_eq!(taken(&mut budget, start), 25);
        assert_eq!(taken(&mut budget, start + INTERVAL / 2), 0);
        assert_eq!(taken(&mut budget, start + INTERVAL * 5 / 2), 2);
        assert_eq!(taken(&mut budget, start + INTERVAL * 3), 1);
        assert_eq!(taken(&mut budget, start + INTERVAL * 1000), 25);
    }

    #[test]
    fn in_the_namespace_of_what_it_is_about() {
        let service = ObjectName::new("shop", "web");
        let long = "ä".repeat(1000);
        for (happening, expected) in [
            (Happening::Started, ["default", "Node", "Starting"]),
            (
                Happening::NoHealthCheck(service, long),
                ["shop", "Service", "FailedToStartServiceHealthcheck"],
            ),
        ] {
            let event = event(&happening, "n1", Timestamp::UNIX_EPOCH);
            let regarding = event.regarding.unwrap_or_default();
            let found = [event.metadata.namespace, regarding.kind, event.reason];
            assert_eq!(found.map(Option::unwrap_or_default), expected);
            assert!(event.note.is_none_or(|note| note.len() == LONGEST));
        }
    }
}
