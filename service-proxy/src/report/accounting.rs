//! What rules of iptables mode count in the kernel's accounting objects.

use std::fmt;

use kernel::accounting::Handle;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::counter::ConstCounter,
};

use crate::plan::iptables::{INVALID_DROPPED, LOCALHOST_ACCEPTED};

/// Asks the kernel whenever it is asked. What there is no object for is not told.
#[derive(Debug)]
pub struct Accounting;

// === impl Collector for Accounting ===

impl Collector for Accounting {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Ok(mut kernel) = Handle::open() else {
            return Ok(());
        };
        for (object, name, help) in [
            (
                INVALID_DROPPED,
                "kubeproxy_iptables_ct_state_invalid_dropped_packets",
                "Packets that belong to no connection and were not forwarded",
            ),
            (
                LOCALHOST_ACCEPTED,
                "kubeproxy_iptables_localhost_nodeports_accepted_packets",
                "Connections to NodePorts on loopback addresses that were accepted",
            ),
        ] {
            let Ok(Some(packets)) = kernel.packets(object) else {
                continue;
            };
            let counter = ConstCounter::new(packets);
            let kind = counter.metric_type();
            counter.encode(encoder.encode_descriptor(name, help, None, kind)?)?;
        }
        Ok(())
    }
}
