//! Waiting between attempts.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// Waits that double up to a limit. Each is shortened at random by up to a half, so that nodes that lost one server
/// together do not come back together.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

// === impl Backoff ===

impl Backoff {
    /// Begins with the first wait.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            next: first,
        }
    }

    /// How long to wait now.
    pub fn next_wait(&mut self) -> Duration {
        let wait = shortened(self.next, RandomState::new().hash_one(0));
        self.next = self.longest.min(self.next * 2);
        wait
    }

    /// Begins with the first wait again.
    pub const fn reset(&mut self) {
        self.next = self.first;
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

    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(3);

    #[test]
    fn waits_double_up_to_a_limit() {
        let mut backoff = Backoff::new(FIRST, LONGEST);
        let mut expected = FIRST;
        for _ in 0..20 {
            let wait = backoff.next_wait();
            assert!((expected / 2..=expected).contains(&wait), "{wait:?}");
            expected = LONGEST.min(expected * 2);
        }
        backoff.reset();
        assert!(backoff.next_wait() <= FIRST);
    }

    #[test]
    fn at_least_half_is_waited() {
        for random in [0, 1, 49_999, 50_000, 50_001, u64::MAX] {
            let wait = shortened(FIRST, random);
            assert!((FIRST / 2..=FIRST).contains(&wait), "{wait:?}");
        }
    }
}
