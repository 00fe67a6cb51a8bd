//! Whether the kernel follows the objects, as load balancers and the kubelet ask for it (`/healthz`, `/livez`:
//! service-proxy F30, F31).

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use kernel::Family;
use serde::Serialize;

/// Go's zero time, which kube-proxy tells where nothing has been done yet.
const NEVER: Timestamp = Timestamp::constant(-62_135_596_800, 0);

/// How far the kernel follows, family by family, and whether the node is to be used at all.
#[derive(Debug)]
pub struct Health {
    patience: Duration,
    state: Mutex<State>,
}

/// A point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// To reckon with.
    pub instant: Instant,
    /// To tell people.
    pub time: Timestamp,
}

/// What is answered, in kube-proxy's form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    last_updated: Timestamp,
    current_time: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_eligible: Option<bool>,
    /// Whether all is well.
    pub healthy: bool,
    status: BTreeMap<String, FamilyVerdict>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct FamilyVerdict {
    last_updated: Timestamp,
    healthy: bool,
}

#[derive(Debug)]
struct State {
    families: BTreeMap<Family, Following>,
    node_eligible: bool,
}

/// How far the kernel follows in one family.
#[derive(Debug, Default)]
struct Following {
    updated: Option<Moment>,
    /// Since when something waits to be put into the kernel.
    waiting: Option<Moment>,
}

// === impl Moment ===

impl Moment {
    /// The present one.
    pub fn now() -> Self {
        Self {
            instant: Instant::now(),
            time: Timestamp::now(),
        }
    }
}

// === impl Health ===

impl Health {
    /// Nothing has been done yet. Something that waits for longer than `patience` to be put into the kernel is
    /// a fault.
    pub fn new(patience: Duration) -> Self {
        let families = Family::ALL.map(|family| (family, Following::default()));
        Self {
            patience,
            state: Mutex::new(State {
                families: families.into(),
                node_eligible: true,
            }),
        }
    }

    /// Something is to be put into the kernel.
    pub fn queued(&self, family: Family, now: Moment) {
        self.following(family, |following| {
            following.waiting.get_or_insert(now);
        });
    }

    /// The kernel has everything.
    pub fn updated(&self, family: Family, now: Moment) {
        self.following(family, |following| {
            *following = Following {
                updated: Some(now),
                waiting: None,
            };
        });
    }

    /// Whether load balancers should send new connections to the node (KEP-3836).
    pub fn set_node_eligible(&self, eligible: bool) {
        self.state().node_eligible = eligible;
    }

    /// Whether the kernel follows, whatever the node.
    pub fn is_healthy(&self, now: Moment) -> bool {
        self.livez(now).healthy
    }

    /// What `/livez` answers: the node is of no account.
    pub fn livez(&self, now: Moment) -> Verdict {
        self.verdict(&self.state(), now)
    }

    /// What `/healthz` answers.
    pub fn healthz(&self, now: Moment) -> Verdict {
        let state = self.state();
        let verdict = self.verdict(&state, now);
        let healthy = verdict.healthy && state.node_eligible;
        Verdict {
            healthy,
            last_updated: if healthy { now.time } else { latest(&state) },
            node_eligible: Some(state.node_eligible),
            ..verdict
        }
    }

    fn verdict(&self, state: &State, now: Moment) -> Verdict {
        let status: BTreeMap<_, _> = state
            .families
            .iter()
            .map(|(family, following)| (family.to_string(), self.family(following, now)))
            .collect();
        let healthy = status.values().all(|family| family.healthy);
        Verdict {
            // Those who ask take it for a sign of life: kube-proxy once synced whether there was something to
            // do or not.
            last_updated: if healthy { now.time } else { latest(state) },
            current_time: now.time,
            node_eligible: None,
            healthy,
            status,
        }
    }

    fn family(&self, following: &Following, now: Moment) -> FamilyVerdict {
        let late = |since: Moment| now.instant.duration_since(since.instant) >= self.patience;
        FamilyVerdict {
            last_updated: following.updated.map_or(NEVER, |at| at.time),
            healthy: !following.waiting.is_some_and(late),
        }
    }

    fn following(&self, family: Family, change: impl FnOnce(&mut Following)) {
        change(self.state().families.entry(family).or_default());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When something was put into the kernel last.
fn latest(state: &State) -> Timestamp {
    let updated = state.families.values().filter_map(|it| it.updated);
    updated.map(|at| at.time).max().unwrap_or(NEVER)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::{Value, json};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// Moments so many seconds after the first one, which is the start of the year 2026.
    fn clock() -> impl Fn(u64) -> Moment {
        let start = Instant::now();
        move |seconds| Moment {
            instant: start + Duration::from_secs(seconds),
            time: Timestamp::from_second(1_767_225_600 + i64::try_from(seconds).unwrap()).unwrap(),
        }
    }

    fn value(verdict: &Verdict) -> Value {
        serde_json::to_value(verdict).unwrap()
    }

    #[test]
    fn answers_in_kube_proxys_form() {
        let (health, at) = (Health::new(PATIENCE), clock());
        health.updated(Family::V4, at(1));
        health.updated(Family::V6, at(2));
        health.queued(Family::V6, at(3));
        let text = serde_json::to_string(&health.healthz(at(63))).unwrap();
        let expected = json!({
            "lastUpdated": "2026-01-01T00:00:02Z",
            "currentTime": "2026-01-01T00:01:03Z",
            "nodeEligible": true,
            "healthy": false,
            "status": {
                "IPv4": {"lastUpdated": "2026-01-01T00:00:01Z", "healthy": true},
                "IPv6": {"lastUpdated": "2026-01-01T00:00:02Z", "healthy": false},
            },
        });
        assert_eq!(text, expected.to_string());
        let livez = value(&health.livez(at(63)));
        assert_eq!(livez.get("nodeEligible"), None);
        assert_eq!(livez["healthy"], json!(false));
    }

    #[test]
    fn a_sound_proxy_was_updated_just_now() {
        let (health, at) = (Health::new(PATIENCE), clock());
        let starting = value(&health.healthz(at(5)));
        assert_eq!(starting["healthy"], json!(true));
        assert_eq!(starting["lastUpdated"], json!("2026-01-01T00:00:05Z"));
        assert_eq!(
            starting["status"]["IPv4"]["lastUpdated"],
            json!("0001-01-01T00:00:00Z")
        );
    }

    #[test]
    fn what_waits_too_long_is_a_fault() {
        let (health, at) = (Health::new(PATIENCE), clock());
        health.queued(Family::V4, at(10));
        // A second change in the meantime does not start the time anew.
        health.queued(Family::V4, at(40));
        assert!(health.is_healthy(at(69)));
        assert!(!health.is_healthy(at(70)));
        health.updated(Family::V4, at(71));
        assert!(health.is_healthy(at(10_000)));
    }

    #[test]
    fn a_node_that_is_to_go_is_alive_but_not_eligible() {
        let (health, at) = (Health::new(PATIENCE), clock());
        health.updated(Family::V4, at(7));
        health.set_node_eligible(false);
        let healthz = value(&health.healthz(at(9)));
        assert_eq!(
            (&healthz["healthy"], &healthz["nodeEligible"]),
            (&json!(false), &json!(false))
        );
        assert_eq!(healthz["lastUpdated"], json!("2026-01-01T00:00:07Z"));
        assert!(health.livez(at(9)).healthy && health.is_healthy(at(9)));
        health.set_node_eligible(true);
        assert!(health.healthz(at(10)).healthy);
    }
}
