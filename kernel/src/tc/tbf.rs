//! The token bucket filter.

use std::{fmt, num::NonZeroU64, time::Duration};

use crate::netlink::{
    array_at,
    attribute::{Body, find},
};

const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
/// Length of `struct tc_tbf_qopt`: two `tc_ratespec`, limit, buffer, mtu.
const PARMS_LEN: usize = 36;
const RATE_AT: usize = 8;
const LIMIT_AT: usize = 24;
const BUFFER_AT: usize = 28;
/// `TC_LINKLAYER_ETHERNET`, in the second byte of a `tc_ratespec`.
const ETHERNET: u8 = 1;
/// The kernel's unit of time in traffic control is 64 ns (`PSCHED_SHIFT`, since Linux 2.6.31).
const TICKS_PER_MICROSECOND: f64 = 1000.0 / 64.0;
const MICROSECONDS: f64 = 1e6;

/// A token bucket: packets leave at a rate, after a burst, and wait in a queue of limited length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tbf {
    /// Bytes per second.
    pub rate: u64,
    /// Length of the queue in bytes.
    pub limit: u32,
    /// Size of the bucket, as the time that it takes to send it at the rate, in units of 64 ns.
    pub buffer: u32,
}

// === impl Tbf ===

impl Tbf {
    /// The longest wait that the reference `bandwidth` plugin allows for.
    pub const LATENCY: Duration = Duration::from_millis(25);

    /// A bucket of `burst` bytes that is filled at `rate` bytes per second, with a queue in which a
    /// packet waits for `latency` at the most. Computed as the reference `bandwidth` plugin does,
    /// roundings included, so that its CHECK finds what it expects. Saturates.
    pub fn new(rate: NonZeroU64, burst: u32, latency: Duration) -> Self {
        let rate = rate.get();
        let fill_time = (f64::from(burst) * MICROSECONDS / rate as f64) as u32;
        let waiting = (rate as f64 * latency.as_micros() as f64 / MICROSECONDS) as u32;
        Self {
            rate,
            limit: waiting.saturating_add(burst),
            buffer: (f64::from(fill_time) * TICKS_PER_MICROSECOND) as u32,
        }
    }

    /// Size of the bucket in bytes, as nearly as the kernel knows it.
    pub fn burst(&self) -> u64 {
        let microseconds = f64::from(self.buffer) / TICKS_PER_MICROSECOND;
        (microseconds * self.rate as f64 / MICROSECONDS).round() as u64
    }

    pub(super) fn put_options(&self, options: &mut Body) {
        let mut parms = [0; PARMS_LEN];
        // Faster than fits: the kernel takes the wider attribute then.
        let rate = u32::try_from(self.rate).unwrap_or(u32::MAX);
        parms[1] = ETHERNET;
        parms[RATE_AT..RATE_AT + 4].copy_from_slice(&rate.to_ne_bytes());
        parms[LIMIT_AT..LIMIT_AT + 4].copy_from_slice(&self.limit.to_ne_bytes());
        parms[BUFFER_AT..BUFFER_AT + 4].copy_from_slice(&self.buffer.to_ne_bytes());
        options.put(TCA_TBF_PARMS, &parms);
        if u64::from(rate) != self.rate {
            options.put(TCA_TBF_RATE64, &self.rate.to_ne_bytes());
        }
    }

    pub(super) fn parse_options(options: &[u8]) -> Option<Self> {
        let parms = find(options, TCA_TBF_PARMS)?;
        let number = |at| array_at(parms, at).map(u32::from_ne_bytes);
        let wide = find(options, TCA_TBF_RATE64).and_then(|rate| array_at(rate, 0));
        Some(Self {
            rate: match wide {
                Some(rate) => u64::from_ne_bytes(rate),
                None => number(RATE_AT)?.into(),
            },
            limit: number(LIMIT_AT)?,
            buffer: number(BUFFER_AT)?,
        })
    }
}

impl fmt::Display for Tbf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rate, burst, limit) = (self.rate, self.burst(), self.limit);
        write!(f, "tbf rate {rate}bps burst {burst} limit {limit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn computed_as_the_reference_plugin_does() {
        for (rate, burst, limit, buffer) in [
            // 8 Mbit/s, 800 kbit: rate * 0.025 + burst; 100 ms in units of 64 ns.
            (1_000_000, 100_000, 125_000, 1_562_500),
            // 16 bit/s, 8 bit, as in the reference's own tests.
            (2, 1, 1, 7_812_500),
            (3, 1, 1, 5_208_328),
            // 80 Gbit/s, 8 Gbit.
            (10_000_000_000, 1_000_000_000, 1_250_000_000, 1_562_500),
        ] {
            let tbf = Tbf::new(NonZeroU64::new(rate).unwrap(), burst, Tbf::LATENCY);
            assert_eq!((tbf.limit, tbf.buffer), (limit, buffer), "{rate} {burst}");
        }
    }

    #[test]
    fn options_round_trip_also_beyond_32_bits() {
        for rate in [1_000_000, 10_000_000_000] {
            let tbf = Tbf::new(NonZeroU64::new(rate).unwrap(), 100_000, Tbf::LATENCY);
            let mut options = Body::default();
            tbf.put_options(&mut options);
            assert_eq!(Tbf::parse_options(&options.into_bytes()), Some(tbf));
        }
    }

    #[test]
    fn prints_as_tc_takes_it() {
        let tbf = Tbf::new(NonZeroU64::new(1_000_000).unwrap(), 100_000, Tbf::LATENCY);
        assert_eq!(
            tbf.to_string(),
            "tbf rate 1000000bps burst 100000 limit 125000"
        );
    }
}
