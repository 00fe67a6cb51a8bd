//! Waiting between attempts.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// The first wait.
const FIRST: Duration = Duration::from_millis(200);
/// The longest wait, client-go's.
const LONGEST: Duration = Duration::from_secs(30);

/// Waits that double, from 200 ms to 30 s. Each is shortened at random by up to a half, so that nodes that
/// lost one server together do not come back together.
#[derive(Clone, Debug)]
pub struct Backoff {
    next: Duration,
}

// === impl Backoff ===

impl Backoff {
    /// The next wait; at least what the server asks for.
    pub fn next(&mut self, asked: Option<Duration>) -> Duration {
        let wait = shortened(self.next, RandomState::new().hash_one(0));
        self.next = LONGEST.min(self.next * 2);
        asked.map_or(wait, |asked| wait.max(asked.min(LONGEST * 2)))
    }

    /// Begins from the shortest wait again.
    pub const fn reset(&mut self) {
        self.next = FIRST;
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

/// Takes off up to a half, by a random number.
fn shortened(wait: Duration, random: u64) -> Duration {
    let micros = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(micros - random % (micros / 2 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit() {
        let mut backoff = Backoff::default();
        let mut expected = FIRST;
        for _ in 0..20 {
            let wait = backoff.next(None);
            assert!((expected / 2..=expected).contains(&wait), "{wait:?}");
            expected = LONGEST.min(expected * 2);
        }
        backoff.reset();
        assert!(backoff.next(None) <= FIRST);
        let asked = Duration::from_secs(2);
        assert_eq!(backoff.next(Some(asked)), asked);
    }
}
