//! The route that ends loops (`--ip-blackhole-route`, spec 1.7).

use ipnetwork::IpNetwork;
use kernel::route::{NextHop, Route};

use super::PROTOCOL;

/// Behind any route that leads to pods: flannel's has the same metric as that of a bridge, and which of the
/// two is taken depends on which one was there first.
const METRIC: u32 = u32::MAX;

/// The route that drops packets for addresses of the node's own subnet that no other route leads to, so that
/// they do not leave by the default route and come back.
pub const fn blackhole_route(subnet: IpNetwork) -> Route {
    Route {
        destination: subnet,
        next_hop: NextHop::Blackhole,
        protocol: PROTOCOL,
        table: Route::MAIN,
        metric: METRIC,
        source: None,
    }
}
