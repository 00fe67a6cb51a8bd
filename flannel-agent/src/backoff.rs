//! Waiting between attempts.

use std::time::Duration;

/// First wait.
const FIRST: Duration = Duration::from_millis(100);
/// Longest wait.
pub const LONGEST: Duration = Duration::from_secs(3);

/// Waits that double, from 100 ms to 3 s.
#[derive(Clone, Debug)]
pub struct Backoff(outage::Backoff);

// === impl Backoff ===

impl Backoff {
    /// Waits.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.0.next_wait()).await;
    }

    /// Begins from the shortest wait again.
    pub const fn reset(&mut self) {
        self.0.reset();
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self(outage::Backoff::new(FIRST, LONGEST))
    }
}
