//! Waiting for something to become true.

use std::{
    env,
    sync::LazyLock,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// How long anything may take. Generous: it only decides when a test that will fail gives up.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(5);

/// A time that nothing takes on a usual machine, as many times as long as `TWEED_PATIENCE` says: an emulated
/// machine is more than ten times slower.
///
/// # Panics
/// If `TWEED_PATIENCE` is no whole number.
#[must_use]
pub fn patience(usual: Duration) -> Duration {
    static FACTOR: LazyLock<u32> =
        LazyLock::new(
            || match env::var("TWEED_PATIENCE").map(|text| text.parse()) {
                Err(_) => 1,
                Ok(Ok(factor)) => factor,
                Ok(Err(error)) => panic!("TWEED_PATIENCE: {error}"),
            },
        );
    usual * *FACTOR
}

/// Asks again and again until `done` answers true.
///
/// # Errors
/// `done`'s own, at once; or that `what` did not come within 30 seconds, or what [`patience`] makes of them.
pub fn wait_until(what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    let limit = patience(PATIENCE);
    while !done()? {
        if start.elapsed() > limit {
            bail!("waited {} seconds for {what}", limit.as_secs());
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}
