//! Changes to the kernel's tables, as values.

use std::fmt;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;

use super::{
    Address, FdbEntry, IfIndex, LinkSettings, Neighbour, NewLink, NewLinkKind, NextHop, Route,
    RouteOptions, request,
};
use crate::netlink::Request;

const REPLACE: u16 = NLM_F_CREATE | NLM_F_REPLACE;

/// One change. `Replace` makes or overwrites; `Add` fails where the object exists; `Delete` fails
/// where it does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Makes an interface.
    AddLink(NewLink),
    /// Changes an interface.
    SetLink(IfIndex, LinkSettings),
    /// Removes an interface.
    DeleteLink(IfIndex),
    /// Gives an interface an address.
    ReplaceAddress(Address),
    /// Takes an address from an interface.
    DeleteAddress(Address),
    /// Makes a route, or replaces the one with its destination, table and metric.
    ReplaceRoute(Route),
    /// [`Self::ReplaceRoute`] with what is seldom said of one.
    ReplaceRouteWith(Route, RouteOptions),
    /// Removes a route.
    DeleteRoute(Route),
    /// Makes or replaces a neighbour.
    ReplaceNeighbour(Neighbour),
    /// Removes a neighbour.
    DeleteNeighbour(Neighbour),
    /// Makes a forwarding entry, or replaces the one of its Ethernet address.
    ReplaceFdb(FdbEntry),
    /// Removes a forwarding entry.
    DeleteFdb(FdbEntry),
}

// === impl Change ===

impl Change {
    pub(super) fn to_request(&self) -> Request {
        use RouteNetlinkMessage as Message;
        let (message, flags) = match self {
            Self::AddLink(link) => (
                Message::NewLink(link.to_message()),
                NLM_F_CREATE | NLM_F_EXCL,
            ),
            Self::SetLink(index, settings) => (Message::NewLink(settings.to_message(*index)), 0),
            Self::DeleteLink(index) => (
                Message::DelLink(LinkSettings::default().to_message(*index)),
                0,
            ),
            Self::ReplaceAddress(address) => (Message::NewAddress(address.to_message()), REPLACE),
            Self::DeleteAddress(address) => (Message::DelAddress(address.to_message()), 0),
            Self::ReplaceRoute(route) => (Message::NewRoute(route.to_message()), REPLACE),
            Self::ReplaceRouteWith(route, options) => {
                let message = options.add_to(route.to_message());
                let flags = match options.beside_others {
                    true => NLM_F_CREATE,
                    false => REPLACE,
                };
                (Message::NewRoute(message), flags)
            }
            Self::DeleteRoute(route) => (Message::DelRoute(route.to_message()), 0),
            Self::ReplaceNeighbour(it) => (Message::NewNeighbour(it.to_message()), REPLACE),
            Self::DeleteNeighbour(it) => (Message::DelNeighbour(it.to_message()), 0),
            Self::ReplaceFdb(entry) => (Message::NewNeighbour(entry.to_message()), REPLACE),
            Self::DeleteFdb(entry) => (Message::DelNeighbour(entry.to_message()), 0),
        };
        request(&message, flags)
    }
}

/// The command of iproute2 that does the same. Interfaces are named by index (`if7`), which iproute2
/// takes as well.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddLink(link) => write!(f, "ip link add {link}"),
            Self::SetLink(index, settings) => write!(f, "ip link set {index}{settings}"),
            Self::DeleteLink(index) => write!(f, "ip link delete {index}"),
            Self::ReplaceAddress(it) => {
                write!(f, "ip address replace {} dev {}", it.address, it.interface)
            }
            Self::DeleteAddress(it) => {
                write!(f, "ip address delete {} dev {}", it.address, it.interface)
            }
            Self::ReplaceRoute(route) => write!(f, "ip route replace {route}"),
            Self::ReplaceRouteWith(route, options) => {
                let verb = match options.beside_others {
                    true => "prepend",
                    false => "replace",
                };
                write!(f, "ip route {verb} {route}{options}")
            }
            Self::DeleteRoute(route) => write!(f, "ip route delete {route}"),
            Self::ReplaceNeighbour(it) => write!(f, "ip neigh replace {it}"),
            Self::DeleteNeighbour(it) => write!(f, "ip neigh delete {it}"),
            Self::ReplaceFdb(entry) => write!(f, "bridge fdb replace {entry}"),
            Self::DeleteFdb(entry) => write!(f, "bridge fdb delete {entry}"),
        }
    }
}

// === impl NewLink ===

impl fmt::Display for NewLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)?;
        write_setting(f, " address ", self.mac)?;
        write_setting(f, " mtu ", self.mtu)?;
        write_setting(f, " master ", self.master)?;
        match &self.kind {
            NewLinkKind::Wireguard => f.write_str(" type wireguard"),
            NewLinkKind::Dummy => f.write_str(" type dummy"),
            NewLinkKind::Ifb => f.write_str(" type ifb"),
            NewLinkKind::Vlan(vlan) => {
                write!(f, " link {} type vlan id {}", vlan.parent, vlan.id)
            }
            NewLinkKind::Ipip(ipip) => {
                f.write_str(" type ipip")?;
                write_setting(f, " local ", ipip.local)?;
                write_setting(f, " remote ", ipip.remote)?;
                write_setting(f, " dev ", ipip.parent)?;
                f.write_str(if ipip.path_mtu_discovery {
                    ""
                } else {
                    " nopmtudisc"
                })
            }
            NewLinkKind::Bridge => f.write_str(" type bridge"),
            NewLinkKind::Veth(peer) => {
                let queues = " numtxqueues 1 numrxqueues 1";
                write!(f, "{queues} type veth peer name {}{queues}", peer.name)?;
                write_setting(f, " netns /proc/self/fd/", peer.namespace)
            }
            NewLinkKind::Vxlan(vxlan) => {
                write!(f, " type vxlan id {} dstport {}", vxlan.vni, vxlan.port)?;
                write_setting(f, " dev ", vxlan.parent)?;
                write_setting(f, " local ", vxlan.local)?;
                f.write_str(if vxlan.learning { "" } else { " nolearning" })?;
                f.write_str(if vxlan.gbp { " gbp" } else { "" })
            }
        }
    }
}

// === impl LinkSettings ===

impl fmt::Display for LinkSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_setting(f, " address ", self.mac)?;
        write_setting(f, " mtu ", self.mtu)?;
        match self.master {
            Some(IfIndex(0)) => f.write_str(" nomaster")?,
            master => write_setting(f, " master ", master)?,
        }
        write_setting(f, " txqueuelen ", self.tx_queue_len)?;
        write_setting(f, " promisc ", self.promiscuous.map(on_off))?;
        write_setting(f, " allmulticast ", self.all_multicast.map(on_off))?;
        write_setting(f, " alias ", self.alias.as_ref())?;
        write_setting(f, " name ", self.name.as_ref())?;
        write_setting(f, " netns /proc/self/fd/", self.namespace)?;
        let vlan_filtering = self.vlan_filtering.map(u8::from);
        write_setting(f, " type bridge vlan_filtering ", vlan_filtering)?;
        write_setting(f, " type bridge_slave hairpin ", self.hairpin.map(on_off))?;
        write_setting(f, " type bridge_slave isolated ", self.isolated.map(on_off))?;
        write_setting(f, " type bridge_slave learning ", self.learning.map(on_off))?;
        write_setting(f, " ", self.up.map(|up| if up { "up" } else { "down" }))
    }
}

// === impl Route ===

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.next_hop {
            NextHop::Link(interface) => write!(f, "{} dev {interface}", self.destination)?,
            NextHop::Gateway {
                gateway,
                interface,
                onlink,
            } => {
                write!(f, "{} via {gateway} dev {interface}", self.destination)?;
                f.write_str(if onlink { " onlink" } else { "" })?;
            }
            NextHop::Blackhole => write!(f, "blackhole {}", self.destination)?,
        }
        if self.table != Self::MAIN {
            write!(f, " table {}", self.table)?;
        }
        if self.metric != 0 {
            write!(f, " metric {}", self.metric)?;
        }
        write_setting(f, " src ", self.source)?;
        write!(f, " proto {}", self.protocol.0)
    }
}

// === impl Neighbour ===

impl fmt::Display for Neighbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        write_setting(f, " lladdr ", self.mac)?;
        write!(f, " dev {}", self.interface)?;
        f.write_str(if self.permanent { " nud permanent" } else { "" })
    }
}

// === impl FdbEntry ===

impl fmt::Display for FdbEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} dev {} dst {} self",
            self.mac, self.interface, self.destination
        )?;
        f.write_str(if self.permanent { " permanent" } else { "" })
    }
}

fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

fn write_setting(
    f: &mut fmt::Formatter<'_>,
    word: &str,
    value: Option<impl fmt::Display>,
) -> fmt::Result {
    value.map_or(Ok(()), |value| write!(f, "{word}{value}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Protocol;

    #[test]
    fn prints_as_the_command_that_does_the_same() {
        let route = Route {
            destination: "10.5.34.0/24".parse().unwrap(),
            next_hop: NextHop::Gateway {
                gateway: "10.5.34.0".parse().unwrap(),
                interface: IfIndex(7),
                onlink: true,
            },
            protocol: Protocol::STATIC,
            table: Route::MAIN,
            metric: 0,
            source: None,
        };
        assert_eq!(
            Change::ReplaceRoute(route).to_string(),
            "ip route replace 10.5.34.0/24 via 10.5.34.0 dev if7 onlink proto 4"
        );
        let settings = LinkSettings {
            up: Some(true),
            hairpin: Some(true),
            ..Default::default()
        };
        assert_eq!(
            Change::SetLink(IfIndex(3), settings).to_string(),
            "ip link set if3 type bridge_slave hairpin on up"
        );
    }
}
