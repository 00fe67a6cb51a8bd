//! VLANs that bridge ports are members of, of a bridge with `vlan_filtering`.

use std::fmt;

use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::{
        AfSpecBridge, BridgeFlag, BridgeVlanInfo, BridgeVlanInfoFlags, LinkAttribute, LinkMessage,
    },
};

use super::{IfIndex, request};
use crate::netlink::Request;

/// VLANs with consecutive identifiers and the same flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortVlans {
    /// The first identifier, 1 to 4094.
    pub first: u16,
    /// The last identifier, the same as the first for a single VLAN.
    pub last: u16,
    /// Received frames without a tag belong to it; one VLAN of a port at the most.
    pub pvid: bool,
    /// Frames leave without a tag.
    pub untagged: bool,
}

/// Who is a member of a VLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum VlanMember {
    /// A port.
    Port(IfIndex),
    /// The bridge itself, as the node's own interface.
    Bridge(IfIndex),
}

/// A change to the VLANs of a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortVlanChange {
    /// Makes it a member, or sets the flags of one that is.
    Add(VlanMember, PortVlans),
    /// Ends its membership, if there is one; the flags don't matter.
    Delete(VlanMember, PortVlans),
}

// === impl PortVlans ===

impl PortVlans {
    /// One VLAN without flags: its frames carry a tag.
    pub const fn tagged(id: u16) -> Self {
        Self {
            first: id,
            last: id,
            pvid: false,
            untagged: false,
        }
    }

    fn to_attributes(self) -> Vec<AfSpecBridge> {
        let mut flags = BridgeVlanInfoFlags::empty();
        flags.set(BridgeVlanInfoFlags::Pvid, self.pvid);
        flags.set(BridgeVlanInfoFlags::Untagged, self.untagged);
        let info = |vid, extra| {
            AfSpecBridge::VlanInfo(BridgeVlanInfo {
                flags: flags | extra,
                vid,
            })
        };
        if self.first == self.last {
            return vec![info(self.first, BridgeVlanInfoFlags::empty())];
        }
        vec![
            info(self.first, BridgeVlanInfoFlags::RangeBegin),
            info(self.last, BridgeVlanInfoFlags::RangeEnd),
        ]
    }

    /// The VLANs of one interface, with its index.
    pub(super) fn from_message(message: &LinkMessage) -> impl Iterator<Item = (IfIndex, Self)> {
        let interface = IfIndex(message.header.index);
        let infos = message
            .attributes
            .iter()
            .filter_map(|attribute| match attribute {
                LinkAttribute::AfSpecBridge(attributes) => Some(attributes),
                _ => None,
            })
            .flatten()
            .filter_map(|attribute| match attribute {
                AfSpecBridge::VlanInfo(info) => Some(info),
                _ => None,
            });
        let mut first = None;
        infos.filter_map(move |info| {
            if info.flags.contains(BridgeVlanInfoFlags::RangeBegin) {
                first = Some(info.vid);
                return None;
            }
            let vlans = Self {
                first: first.take().unwrap_or(info.vid),
                last: info.vid,
                pvid: info.flags.contains(BridgeVlanInfoFlags::Pvid),
                untagged: info.flags.contains(BridgeVlanInfoFlags::Untagged),
            };
            Some((interface, vlans))
        })
    }
}

impl fmt::Display for PortVlans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vid {}", self.first)?;
        if self.last != self.first {
            write!(f, "-{}", self.last)?;
        }
        f.write_str(if self.pvid { " pvid" } else { "" })?;
        f.write_str(if self.untagged { " untagged" } else { "" })
    }
}

// === impl VlanMember ===

impl VlanMember {
    fn to_message(self, vlans: PortVlans) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.interface_family = AddressFamily::Bridge;
        let mut attributes = Vec::new();
        message.header.index = match self {
            Self::Port(index) => index.0,
            Self::Bridge(index) => {
                attributes.push(AfSpecBridge::Flags(BridgeFlag::LowerDev));
                index.0
            }
        };
        attributes.extend(vlans.to_attributes());
        message.attributes = vec![LinkAttribute::AfSpecBridge(attributes)];
        message
    }
}

impl fmt::Display for VlanMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(index) => write!(f, "dev {index}"),
            Self::Bridge(index) => write!(f, "dev {index} self"),
        }
    }
}

// === impl PortVlanChange ===

impl PortVlanChange {
    pub(super) fn to_request(self) -> Request {
        let message = match self {
            Self::Add(member, vlans) => RouteNetlinkMessage::SetLink(member.to_message(vlans)),
            Self::Delete(member, vlans) => RouteNetlinkMessage::DelLink(member.to_message(vlans)),
        };
        request(&message, 0)
    }
}

/// The command of iproute2 that does the same.
impl fmt::Display for PortVlanChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add(member, vlans) => write!(f, "bridge vlan add {vlans} {member}"),
            Self::Delete(member, vlans) => write!(f, "bridge vlan delete {vlans} {member}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let range = PortVlans {
            first: 100,
            last: 200,
            pvid: false,
            untagged: true,
        };
        let single = PortVlans {
            pvid: true,
            ..PortVlans::tagged(7)
        };
        let mut message = VlanMember::Bridge(IfIndex(3)).to_message(range);
        let more = VlanMember::Port(IfIndex(3)).to_message(single);
        message.attributes.extend(more.attributes);
        let read: Vec<_> = PortVlans::from_message(&message).collect();
        assert_eq!(read, [(IfIndex(3), range), (IfIndex(3), single)]);
        assert_eq!(
            PortVlanChange::Add(VlanMember::Bridge(IfIndex(3)), range).to_string(),
            "bridge vlan add vid 100-200 untagged dev if3 self"
        );
    }
}
