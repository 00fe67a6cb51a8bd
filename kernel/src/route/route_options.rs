//! What of a route is seldom said.

use std::fmt;

use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteMetric};

/// What the kernel chooses by itself unless it is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteOptions {
    /// `rtm_scope`: how far the destination is. Of no account for IPv6.
    pub scope: Option<u8>,
    /// Path MTU, in bytes.
    pub mtu: Option<u32>,
    /// The maximal segment size that TCP connections of this route advertise, in bytes.
    pub advmss: Option<u32>,
}

// === impl RouteOptions ===

impl RouteOptions {
    pub(super) fn add_to(self, mut message: RouteMessage) -> RouteMessage {
        if let Some(scope) = self.scope {
            message.header.scope = scope.into();
        }
        let mtu = self.mtu.map(RouteMetric::Mtu);
        let advmss = self.advmss.map(RouteMetric::Advmss);
        let metrics: Vec<RouteMetric> = mtu.into_iter().chain(advmss).collect();
        if !metrics.is_empty() {
            message.attributes.push(RouteAttribute::Metrics(metrics));
        }
        message
    }
}

/// In the words of iproute2.
impl fmt::Display for RouteOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(scope) = self.scope {
            write!(f, " scope {scope}")?;
        }
        if let Some(mtu) = self.mtu {
            write!(f, " mtu {mtu}")?;
        }
        match self.advmss {
            Some(advmss) => write!(f, " advmss {advmss}"),
            None => Ok(()),
        }
    }
}
