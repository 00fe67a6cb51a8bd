//! What the kernel's tracking of flows is set to (service-proxy F35, F36).

use std::time::Duration;

/// More flows than this are not asked for, whatever the number of processors.
const MOST_FLOWS: u32 = 1_048_576;
/// Flows per bucket of the table: as the kernel chooses itself.
const FLOWS_PER_BUCKET: u32 = 4;

/// `conntrack` of kube-proxy's configuration. What is zero is left as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conntrack {
    /// Flows for each processor.
    pub max_per_core: u32,
    /// Flows at the least, unless `max_per_core` is zero.
    pub min: u32,
    /// How long a TCP connection is remembered that nothing is sent on.
    pub tcp_established: Duration,
    /// The same of one that one side has closed.
    pub tcp_close_wait: Duration,
    /// How long UDP is remembered that was not answered.
    pub udp: Duration,
    /// The same of UDP that was.
    pub udp_stream: Duration,
    /// Whether TCP packets out of the window belong to their connection all the same; if not, that is left
    /// as it is.
    pub tcp_be_liberal: bool,
}

/// A setting below `/proc/sys`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its path.
    pub key: &'static str,
    /// What it should be.
    pub value: u64,
    /// Whether more is right too.
    pub at_least: bool,
}

// === impl Conntrack ===

/// As kube-proxy has them.
impl Default for Conntrack {
    fn default() -> Self {
        Self {
            max_per_core: 32 * 1024,
            min: 128 * 1024,
            tcp_established: Duration::from_secs(24 * 3600),
            tcp_close_wait: Duration::from_secs(3600),
            udp: Duration::ZERO,
            udp_stream: Duration::ZERO,
            tcp_be_liberal: false,
        }
    }
}

impl Conntrack {
    /// The settings on a machine with so many processors.
    pub fn settings(&self, cores: u32) -> Vec<Setting> {
        let flows = self.max(cores);
        let exactly = |key, value| Setting {
            key,
            value,
            at_least: false,
        };
        let timeout = |key, time: Duration| exactly(key, time.as_secs());
        let buckets = Setting {
            at_least: true,
            ..exactly(
                "net/netfilter/nf_conntrack_buckets",
                u64::from(flows / FLOWS_PER_BUCKET),
            )
        };
        let wanted = [
            exactly("net/netfilter/nf_conntrack_max", flows.into()),
            buckets,
            timeout(
                "net/netfilter/nf_conntrack_tcp_timeout_established",
                self.tcp_established,
            ),
            timeout(
                "net/netfilter/nf_conntrack_tcp_timeout_close_wait",
                self.tcp_close_wait,
            ),
            timeout("net/netfilter/nf_conntrack_udp_timeout", self.udp),
            timeout(
                "net/netfilter/nf_conntrack_udp_timeout_stream",
                self.udp_stream,
            ),
            exactly(
                "net/netfilter/nf_conntrack_tcp_be_liberal",
                self.tcp_be_liberal.into(),
            ),
        ];
        wanted
            .into_iter()
            .filter(|setting| setting.value > 0)
            .collect()
    }

    fn max(&self, cores: u32) -> u32 {
        match self.max_per_core {
            0 => 0,
            each => each.saturating_mul(cores).max(self.min).min(MOST_FLOWS),
        }
    }
}

// === impl Setting ===

impl Setting {
    /// Whether a value is as it should be.
    pub fn is_met_by(&self, value: u64) -> bool {
        value == self.value || (self.at_least && value > self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_flows_as_kube_proxy_asks_for() {
        for (max_per_core, min, cores, expected) in [
            (32_768, 131_072, 2, 131_072),
            (32_768, 131_072, 4, 131_072),
            (32_768, 131_072, 8, 262_144),
            (32_768, 131_072, 64, 1_048_576),
            (32_768, 0, 2, 65_536),
            (0, 131_072, 2, 0),
            (u32::MAX, 0, 2, 1_048_576),
        ] {
            let conntrack = Conntrack {
                max_per_core,
                min,
                ..Conntrack::default()
            };
            assert_eq!(conntrack.max(cores), expected, "{conntrack:?} {cores}");
        }
    }

    #[test]
    fn what_is_zero_is_left_alone() {
        let shown = |conntrack: &Conntrack| -> Vec<String> {
            let settings = conntrack.settings(8);
            settings
                .iter()
                .map(|it| format!("{}={}", &it.key[27..], it.value))
                .collect()
        };
        assert_eq!(
            shown(&Conntrack::default()),
            [
                "max=262144",
                "buckets=65536",
                "tcp_timeout_established=86400",
                "tcp_timeout_close_wait=3600"
            ]
        );
        let other = Conntrack {
            max_per_core: 0,
            min: 5,
            tcp_established: Duration::ZERO,
            tcp_close_wait: Duration::ZERO,
            udp: Duration::from_secs(10),
            udp_stream: Duration::from_millis(120_900),
            tcp_be_liberal: true,
        };
        assert_eq!(
            shown(&other),
            [
                "udp_timeout=10",
                "udp_timeout_stream=120",
                "tcp_be_liberal=1"
            ]
        );
    }

    #[test]
    fn more_buckets_are_right_too() {
        let settings = Conntrack::default().settings(8);
        let met = |value| -> Vec<bool> {
            let [flows, buckets] = [&settings[0], &settings[1]];
            [flows, buckets].map(|it| it.is_met_by(value)).into()
        };
        assert_eq!(met(65_536), [false, true]);
        assert_eq!(met(262_144), [true, true]);
        assert_eq!(met(65_535), [false, false]);
    }
}
