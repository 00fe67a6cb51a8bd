//! The metrics of the process itself, by the names that Prometheus' clients have for them.

use std::{fmt, fs, io};

use nix::unistd::{SysconfVar, sysconf};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

/// Looks at the process whenever it is asked.
#[derive(Debug)]
pub struct Process;

/// What proc(5) says of the process.
#[derive(Debug, PartialEq)]
struct Usage {
    cpu_seconds: f64,
    virtual_bytes: u64,
    resident_bytes: u64,
    started: f64,
}

/// How the kernel counts.
#[derive(Clone, Copy, Debug)]
struct Units {
    ticks_per_second: f64,
    page_size: u64,
    /// When the machine was started, in seconds since 1970.
    booted: f64,
}

// === impl Process ===

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        // A process that can't see itself, as without /proc, has no such metrics.
        let Some(usage) = usage() else {
            return Ok(());
        };
        let cpu = ConstCounter::new(usage.cpu_seconds);
        let help = "Processor time that the process has used, in seconds";
        cpu.encode(encoder.encode_descriptor(
            "process_cpu_seconds",
            help,
            None,
            cpu_type(&cpu),
        )?)?;
        let mut gauge = |name: &str, help: &str, value: f64| {
            let gauge = ConstGauge::new(value);
            let kind = gauge.metric_type();
            gauge.encode(encoder.encode_descriptor(name, help, None, kind)?)
        };
        #[allow(clippy::cast_precision_loss, reason = "metrics are floats")]
        for (name, help, value) in [
            (
                "process_resident_memory_bytes",
                "Resident memory, in bytes",
                usage.resident_bytes as f64,
            ),
            (
                "process_virtual_memory_bytes",
                "Virtual memory, in bytes",
                usage.virtual_bytes as f64,
            ),
        ] {
            gauge(name, help, value)?;
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            let open = u32::try_from(open.count()).unwrap_or(u32::MAX);
            gauge("process_open_fds", "Open files", f64::from(open))?;
        }
        gauge(
            "process_start_time_seconds",
            "When the process was started, in seconds since 1970",
            usage.started,
        )
    }
}

fn cpu_type(cpu: &ConstCounter<f64>) -> prometheus_client::metrics::MetricType {
    cpu.metric_type()
}

fn usage() -> Option<Usage> {
    let read = |path: &str| -> io::Result<String> { fs::read_to_string(path) };
    let constant = |name| {
        let value = sysconf(name).ok().flatten()?;
        u32::try_from(value).ok()
    };
    let units = Units {
        ticks_per_second: constant(SysconfVar::CLK_TCK)?.into(),
        page_size: constant(SysconfVar::PAGE_SIZE)?.into(),
        booted: booted(&read("/proc/stat").ok()?)?,
    };
    parse(&read("/proc/self/stat").ok()?, units)
}

/// `btime` of `/proc/stat`.
fn booted(stat: &str) -> Option<f64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "));
    line?.trim().parse().ok()
}

/// `/proc/PID/stat` as proc_pid_stat(5) has it; what follows the name in brackets begins with field 3.
fn parse(stat: &str, units: Units) -> Option<Usage> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<_> = rest.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    #[allow(clippy::cast_precision_loss, reason = "metrics are floats")]
    let seconds = |ticks: u64| ticks as f64 / units.ticks_per_second;
    Some(Usage {
        cpu_seconds: seconds(field(14)? + field(15)?),
        started: units.booted + seconds(field(22)?),
        virtual_bytes: field(23)?,
        resident_bytes: field(24)? * units.page_size,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn reads_what_the_kernel_prints() {
        let units = Units {
            ticks_per_second: 100.0,
            page_size: 4096,
            booted: booted("cpu  1 2 3\nbtime 1700000000\nprocesses 9\n").unwrap(),
        };
        let stat = "77 (a ) (b) S 1 77 77 0 -1 4194304 500 0 0 0 150 50 0 0 20 0 2 0 1200 9000000 300 \
                    18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0";
        let expected = Usage {
            cpu_seconds: 2.0,
            started: 1_700_000_012.0,
            virtual_bytes: 9_000_000,
            resident_bytes: 300 * 4096,
        };
        assert_eq!(parse(stat, units), Some(expected));
        assert_eq!(parse("77 (a) S 1", units), None);
        assert!(usage().unwrap().resident_bytes > 0);
    }
}
