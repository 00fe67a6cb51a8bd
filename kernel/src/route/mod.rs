//! Links, addresses, routes, neighbours and forwarding entries (rtnetlink(7)).
//!
//! [`Handle`] reads what stands in the kernel and carries out [`Change`]s, many in one system call. A
//! change is a value: it can be planned without a kernel, compared, and printed as the `ip` or `bridge`
//! command that does the same.

mod address;
mod change;
mod details;
mod handle;
mod link;
mod link_kind;
mod link_message;
mod link_settings;
mod lookup;
mod monitor;
mod neighbour;
mod port_vlan;
#[allow(clippy::module_inception)]
mod route;
mod route_options;

pub use address::{Address, AddressState};
pub use change::Change;
pub use details::{LinkDetails, OperState, PortDetails};
pub use handle::Handle;
pub use link::{
    IfIndex, Ipip, Link, LinkKind, LinkSettings, NewLink, NewLinkKind, VethPeer, Vlan, Vxlan,
};
pub use lookup::Lookup;
pub use monitor::{Event, Monitor, Topic};
pub use neighbour::{FdbEntry, Neighbour};
pub use port_vlan::{PortVlanChange, PortVlans, VlanMember};
pub use route::{NextHop, Protocol, Route};
pub use route_options::RouteOptions;

use netlink_packet_core::Emitable;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::{Family, netlink::Request};

fn family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

fn request(message: &RouteNetlinkMessage, flags: u16) -> Request {
    let mut body = vec![0; message.buffer_len()];
    message.emit(&mut body);
    Request {
        kind: message.message_type(),
        flags,
        body,
    }
}
