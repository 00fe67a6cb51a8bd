//! Waiting between attempts.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// First wait.
const FIRST: Duration = Duration::from_millis(100);
/// Longest wait.
pub const LONGEST: Duration = Duration::from_secs(3);

/// Waits that double, from 100 ms to 3 s. Each is shortened at random by up to a half, so that nodes
/// that lost one server together do not come back together.
#[derive(Clone, Debug)]
pub struct Backoff {
    next: Duration,
}

// === impl Backoff ===

impl Backoff {
    /// Waits.
    pub async fn wait(&mut self) {
        tokio::time::sleep(shortened(self.next, RandomState::new().hash_one(0))).await;
        self.next = LONGEST.min(self.next * 2);
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
    let micros = wait.as_micros() as u64;
    Duration::from_micros(micros - random % (micros / 2 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_least_half_is_waited() {
        for random in [0, 1, 49_999, 50_000, 50_001, u64::MAX] {
            let wait = shortened(FIRST, random);
            assert!((FIRST / 2..=FIRST).contains(&wait), "{wait:?}");
        }
    }
}
