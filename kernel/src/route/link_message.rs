//! Interfaces to and from rtnetlink messages.

use netlink_packet_route::link::{
    InfoBridgePort, InfoPortData, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};

use super::{IfIndex, Link, LinkKind, NewLink, NewLinkKind, VethPeer};
use crate::Mac;

// === impl NewLink ===

impl NewLink {
    pub(super) fn to_message(&self) -> LinkMessage {
        let mut message = LinkMessage::default();
        set_flag(&mut message, LinkFlags::Up, self.up);
        let attributes = &mut message.attributes;
        attributes.push(LinkAttribute::IfName(self.name.to_string()));
        attributes.extend(self.mac.map(mac_attribute));
        attributes.extend(self.mtu.map(LinkAttribute::Mtu));
        attributes.extend(
            self.master
                .map(|master| LinkAttribute::Controller(master.0)),
        );
        match &self.kind {
            NewLinkKind::Vlan(vlan) => attributes.push(LinkAttribute::Link(vlan.parent.0)),
            NewLinkKind::Veth(_) => attributes.extend(VethPeer::ONE_QUEUE),
            _ => {}
        }
        attributes.push(LinkAttribute::LinkInfo(self.kind.to_infos()));
        message
    }
}

// === impl Link ===

impl Link {
    /// `None` for a message without a name.
    pub(super) fn from_message(message: &LinkMessage) -> Option<Self> {
        let flags = message.header.flags;
        let (mut name, mut infos) = (None, &[][..]);
        let mut link = Self {
            index: IfIndex(message.header.index),
            name: "unnamed".parse().ok()?,
            mac: None,
            mtu: 0,
            up: flags.contains(LinkFlags::Up),
            carrier: flags.contains(LinkFlags::LowerUp),
            loopback: flags.contains(LinkFlags::Loopback),
            master: None,
            parent: None,
            kind: LinkKind::Other(String::new()),
            hairpin: None,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(text) => name = text.parse().ok(),
                LinkAttribute::Address(bytes) => {
                    link.mac = bytes.as_slice().try_into().map(Mac).ok();
                }
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Controller(index) => link.master = Some(IfIndex(*index)),
                LinkAttribute::Link(index) => link.parent = Some(IfIndex(*index)),
                LinkAttribute::LinkInfo(it) => infos = it,
                _ => {}
            }
        }
        // The interface below comes later in the message, and is a parameter of some kinds.
        link.read_info(infos);
        Some(Self {
            name: name?,
            ..link
        })
    }

    fn read_info(&mut self, infos: &[LinkInfo]) {
        for info in infos {
            match info {
                LinkInfo::Kind(kind) => self.kind = LinkKind::without_data(kind),
                LinkInfo::Data(data) => {
                    if let Some(kind) = self.kind.with_data(data, self.parent) {
                        self.kind = kind;
                    }
                }
                LinkInfo::PortData(InfoPortData::BridgePort(attributes)) => {
                    self.hairpin = attributes.iter().find_map(|attribute| match attribute {
                        InfoBridgePort::HairpinMode(on) => Some(*on),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
    }
}

pub(super) fn mac_attribute(mac: Mac) -> LinkAttribute {
    LinkAttribute::Address(mac.0.to_vec())
}

pub(super) fn set_flag(message: &mut LinkMessage, flag: LinkFlags, on: bool) {
    message.header.flags.set(flag, on);
    message.header.change_mask.insert(flag);
}
