//! Changes that nodes and pods of tests begin with.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use kernel::route::{Change, IfIndex, LinkSettings, NextHop, Protocol, Route};

/// Brings an interface up.
pub fn up(interface: IfIndex) -> Change {
    let settings = LinkSettings {
        up: Some(true),
        ..LinkSettings::default()
    };
    Change::SetLink(interface, settings)
}

/// Has all that is of a gateway's family go to it.
pub fn default_route(interface: IfIndex, gateway: IpAddr) -> Change {
    let any: IpAddr = match gateway {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    Change::ReplaceRoute(Route {
        destination: IpNetwork::new(any, 0).unwrap_or_else(|_| any.into()),
        next_hop: NextHop::Gateway {
            gateway,
            interface,
            onlink: false,
        },
        protocol: Protocol::STATIC,
        table: Route::MAIN,
        metric: 0,
        source: None,
    })
}
