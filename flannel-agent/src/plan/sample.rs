//! What tests of plans find on a host.

#![allow(clippy::unwrap_used)]

use kernel::route::{IfIndex, Link, LinkKind, NextHop, Protocol, Route, Vxlan};

/// An interface that is up.
pub fn link(index: u32, name: &str, kind: LinkKind) -> Link {
    Link {
        index: IfIndex(index),
        name: name.parse().unwrap(),
        mac: None,
        mtu: 1450,
        up: true,
        carrier: true,
        loopback: false,
        master: None,
        parent: None,
        kind,
        hairpin: None,
    }
}

/// A kind that nobody asks for.
pub fn other_kind() -> LinkKind {
    LinkKind::Other(String::new())
}

/// A VXLAN device's kind.
pub fn vxlan(vni: u32) -> LinkKind {
    LinkKind::Vxlan(Vxlan {
        vni: vni.try_into().unwrap(),
        parent: None,
        local: None,
        port: 8472,
        learning: false,
        gbp: false,
    })
}

/// A route of the main table with the least metric.
pub fn route(destination: &str, next_hop: NextHop, protocol: Protocol) -> Route {
    Route {
        destination: destination.parse().unwrap(),
        next_hop,
        protocol,
        table: Route::MAIN,
        metric: 0,
        source: None,
    }
}
