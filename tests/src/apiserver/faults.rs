//! What tests make go wrong.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::counters::Verb;

/// What happens to some of the next requests.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// To how many of those that it is meant for.
    #[serde(default = "once")]
    pub times: u32,
    /// To requests of this verb alone.
    #[serde(default)]
    pub verb: Option<Verb>,
    /// To requests of this kind of object alone (its name in paths, such as `services`).
    #[serde(default)]
    pub resource: Option<String>,
    /// What happens.
    #[serde(flatten)]
    pub effect: Effect,
}

/// What happens to a request.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "effect")]
pub enum Effect {
    /// It is answered with an error instead of being served.
    Answer {
        /// The HTTP status.
        code: u16,
        /// In `Retry-After`, seconds.
        #[serde(default)]
        retry_after: Option<u32>,
    },
    /// It is served later.
    Delay {
        /// By how much.
        milliseconds: u64,
    },
    /// It is served, but the connection ends after half of the answer; of a watch, after half of what
    /// the watch begins with, in the middle of an event.
    Cut,
    /// The connection ends without an answer.
    HangUp,
}

/// The faults of a server: set by tests, looked at by every request.
#[derive(Debug)]
pub struct Faults {
    pending: Mutex<Vec<Fault>>,
    refused_connections: AtomicU32,
    without_streaming_lists: AtomicBool,
    gone_by_http: AtomicBool,
    orders: watch::Sender<Orders>,
}

/// What all running watches are told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Orders {
    /// Grows with every order to end.
    pub serial: u64,
    /// How watches that began before the serial end.
    pub ending: Ending,
    /// Whether nothing is to be sent for now.
    pub held: bool,
}

/// How a watch ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// As after its time.
    Regular,
    /// In the middle of an event.
    Cut,
    /// With an ERROR event of code 410.
    Expired,
}

// === impl Fault ===

impl Fault {
    /// The next request is answered with an error.
    pub fn answer(code: u16) -> Self {
        Self::new(Effect::Answer {
            code,
            retry_after: None,
        })
    }

    /// The next request is answered with 429 and `Retry-After`, seconds.
    pub fn too_many_requests(retry_after: u32) -> Self {
        Self::new(Effect::Answer {
            code: 429,
            retry_after: Some(retry_after),
        })
    }

    /// The next request is served later.
    pub fn delay(time: Duration) -> Self {
        Self::new(Effect::Delay {
            milliseconds: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// The connection ends after half of the next answer.
    pub fn cut() -> Self {
        Self::new(Effect::Cut)
    }

    /// The connection ends without an answer to the next request.
    pub fn hang_up() -> Self {
        Self::new(Effect::HangUp)
    }

    /// Happens so many times.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self { times, ..self }
    }

    /// Happens to requests of a verb and a kind of object alone.
    #[must_use]
    pub fn on(self, verb: Verb, resource: &str) -> Self {
        Self {
            verb: Some(verb),
            resource: Some(resource.to_owned()),
            ..self
        }
    }

    fn new(effect: Effect) -> Self {
        Self {
            times: once(),
            verb: None,
            resource: None,
            effect,
        }
    }

    fn is_for(&self, verb: Verb, resource: &str) -> bool {
        self.verb.is_none_or(|asked| asked == verb)
            && self.resource.as_ref().is_none_or(|asked| asked == resource)
    }
}

// === impl Faults ===

impl Faults {
    pub(super) fn new() -> Self {
        Self {
            pending: Mutex::default(),
            refused_connections: AtomicU32::new(0),
            without_streaming_lists: AtomicBool::new(false),
            gone_by_http: AtomicBool::new(false),
            orders: watch::Sender::new(Orders {
                serial: 0,
                ending: Ending::Regular,
                held: false,
            }),
        }
    }

    /// Makes something happen to some of the next requests. Faults are used up in the order they were added.
    pub fn add(&self, fault: Fault) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.push(fault);
    }

    /// Takes back all faults that did not happen yet.
    pub fn clear(&self) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.clear();
        self.refused_connections.store(0, Ordering::SeqCst);
    }

    /// Ends all watches in order, as the real server does after their time.
    pub fn end_watches(&self) {
        self.order(Ending::Regular);
    }

    /// Ends the connections of all watches in the middle of an event.
    pub fn cut_watches(&self) {
        self.order(Ending::Cut);
    }

    /// Ends all watches with an ERROR event of code 410.
    pub fn expire_watches(&self) {
        self.order(Ending::Expired);
    }

    /// Sends nothing on any watch until it is taken back: what happens meanwhile is sent then, or 410 if
    /// the history was compacted.
    pub fn hold_watches(&self, held: bool) {
        self.orders.send_modify(|orders| orders.held = held);
    }

    /// Closes the next connections as soon as they are made.
    pub fn refuse_connections(&self, times: u32) {
        self.refused_connections.store(times, Ordering::SeqCst);
    }

    /// Whether streaming lists (`sendInitialEvents`) are offered; older servers answer 422.
    pub fn offer_streaming_lists(&self, offered: bool) {
        self.without_streaming_lists
            .store(!offered, Ordering::SeqCst);
    }

    /// Whether a watch from a compacted revision is answered with HTTP 410. The real server of today
    /// answers 200 and an ERROR event of code 410; proxies and older servers do otherwise.
    pub fn answer_gone_by_http(&self, by_http: bool) {
        self.gone_by_http.store(by_http, Ordering::SeqCst);
    }

    /// What happens to a request; uses up the fault.
    pub(super) fn take(&self, verb: Verb, resource: &str) -> Option<Effect> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let at = pending
            .iter()
            .position(|fault| fault.times > 0 && fault.is_for(verb, resource))?;
        pending[at].times -= 1;
        let effect = pending[at].effect.clone();
        pending.retain(|fault| fault.times > 0);
        Some(effect)
    }

    pub(super) fn refuses_connection(&self) -> bool {
        let count = |left: u32| left.checked_sub(1);
        self.refused_connections
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, count)
            .is_ok()
    }

    pub(super) fn streaming_lists(&self) -> bool {
        !self.without_streaming_lists.load(Ordering::SeqCst)
    }

    pub(super) fn gone_by_http(&self) -> bool {
        self.gone_by_http.load(Ordering::SeqCst)
    }

    pub(super) fn orders(&self) -> watch::Receiver<Orders> {
        self.orders.subscribe()
    }

    fn order(&self, ending: Ending) {
        self.orders.send_modify(|orders| {
            orders.serial += 1;
            orders.ending = ending;
        });
    }
}

fn once() -> u32 {
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_used_up_by_those_they_are_meant_for() {
        let faults = Faults::new();
        faults.add(Fault::answer(500).on(Verb::List, "services").times(2));
        faults.add(Fault::cut());
        assert_eq!(faults.take(Verb::Get, "nodes"), Some(Effect::Cut));
        assert_eq!(faults.take(Verb::Get, "nodes"), None);
        for expected in [true, true, false] {
            assert_eq!(faults.take(Verb::List, "services").is_some(), expected);
        }
    }

    #[test]
    fn faults_as_json() {
        for (text, expected) in [
            (r#"{"effect": "cut"}"#, Fault::cut()),
            (
                r#"{"effect": "answer", "code": 429, "retry_after": 1, "times": 3, "verb": "list", "resource": "nodes"}"#,
                Fault::too_many_requests(1).times(3).on(Verb::List, "nodes"),
            ),
            (
                r#"{"effect": "delay", "milliseconds": 20}"#,
                Fault::delay(Duration::from_millis(20)),
            ),
        ] {
            assert_eq!(serde_json::from_str::<Fault>(text).unwrap(), expected);
        }
    }
}
