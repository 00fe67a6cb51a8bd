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
    /// Let other routes of the same destination, table and metric stay: IPv4 prefers the new one to them,
    /// IPv6 makes one route with several next hops of them (`ip route prepend`). Not shown.
    pub beside_others: bool,
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

impl From<&RouteMessage> for RouteOptions {
    fn from(message: &RouteMessage) -> Self {
        let mut options = Self {
            scope: Some(message.header.scope.into()),
            ..Self::default()
        };
        let metrics = message.attributes.iter().filter_map(|it| match it {
            RouteAttribute::Metrics(metrics) => Some(metrics),
            _ => None,
        });
        for metric in metrics.flatten() {
            match metric {
                RouteMetric::Mtu(mtu) => options.mtu = Some(*mtu),
                RouteMetric::Advmss(advmss) => options.advmss = Some(*advmss),
                _ => {}
            }
        }
        options
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
