//! Interfaces to and from rtnetlink messages.

use std::net::IpAddr;

use netlink_packet_route::link::{
    InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth, InfoVxlan,
    LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};

use super::{
    IfIndex, Link, LinkKind, LinkSettings, NewLink, VethPeer, Vxlan,
    link::{NewLinkKind, VXLAN_PORT},
};
use crate::{Mac, Vni};

// === impl NewLink ===

impl NewLink {
    pub(super) fn to_message(&self) -> LinkMessage {
        let mut message = LinkMessage::default();
        set_up(&mut message, self.up);
        let attributes = &mut message.attributes;
        attributes.push(LinkAttribute::IfName(self.name.to_string()));
        attributes.extend(self.mac.map(mac_attribute));
        attributes.extend(self.mtu.map(LinkAttribute::Mtu));
        attributes.extend(
            self.master
                .map(|master| LinkAttribute::Controller(master.0)),
        );
        attributes.push(LinkAttribute::LinkInfo(match &self.kind {
            NewLinkKind::Bridge => vec![LinkInfo::Kind(InfoKind::Bridge)],
            NewLinkKind::Veth(peer) => vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer.to_message()))),
            ],
            NewLinkKind::Vxlan(vxlan) => vec![
                LinkInfo::Kind(InfoKind::Vxlan),
                LinkInfo::Data(InfoData::Vxlan(vxlan.to_attributes())),
            ],
        }));
        message
    }
}

// === impl VethPeer ===

impl VethPeer {
    fn to_message(&self) -> LinkMessage {
        let mut message = LinkMessage::default();
        let attributes = &mut message.attributes;
        attributes.push(LinkAttribute::IfName(self.name.to_string()));
        attributes.extend(self.mac.map(mac_attribute));
        attributes.extend(self.mtu.map(LinkAttribute::Mtu));
        attributes.extend(self.namespace.map(LinkAttribute::NetNsFd));
        message
    }
}

// === impl Vxlan ===

impl Vxlan {
    fn to_attributes(&self) -> Vec<InfoVxlan> {
        let mut attributes = vec![
            InfoVxlan::Id(self.vni.into()),
            InfoVxlan::Port(self.port),
            InfoVxlan::Learning(self.learning),
        ];
        attributes.extend(self.parent.map(|parent| InfoVxlan::Link(parent.0)));
        attributes.extend(self.local.map(|local| match local {
            IpAddr::V4(local) => InfoVxlan::Local(local),
            IpAddr::V6(local) => InfoVxlan::Local6(local),
        }));
        if self.gbp {
            attributes.push(InfoVxlan::Gbp);
        }
        attributes
    }

    fn from_attributes(attributes: &[InfoVxlan]) -> Option<Self> {
        let mut vni = None;
        let mut vxlan = Self {
            vni: Vni::try_from(0).ok()?,
            parent: None,
            local: None,
            port: VXLAN_PORT,
            learning: true,
            gbp: false,
        };
        for attribute in attributes {
            match attribute {
                InfoVxlan::Id(id) => vni = Vni::try_from(*id).ok(),
                InfoVxlan::Link(index) => vxlan.parent = Some(IfIndex(*index)),
                InfoVxlan::Local(ip) => vxlan.local = Some((*ip).into()),
                InfoVxlan::Local6(ip) => vxlan.local = Some((*ip).into()),
                InfoVxlan::Port(port) => vxlan.port = *port,
                InfoVxlan::Learning(learning) => vxlan.learning = *learning,
                InfoVxlan::Gbp => vxlan.gbp = true,
                _ => {}
            }
        }
        Some(Self { vni: vni?, ..vxlan })
    }
}

// === impl LinkSettings ===

impl LinkSettings {
    pub(super) fn to_message(&self, index: IfIndex) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = index.0;
        if let Some(up) = self.up {
            set_up(&mut message, up);
        }
        let attributes = &mut message.attributes;
        attributes.extend(self.mtu.map(LinkAttribute::Mtu));
        attributes.extend(self.mac.map(mac_attribute));
        attributes.extend(
            self.master
                .map(|master| LinkAttribute::Controller(master.0)),
        );
        if let Some(hairpin) = self.hairpin {
            attributes.push(LinkAttribute::LinkInfo(vec![
                LinkInfo::PortKind(InfoPortKind::Bridge),
                LinkInfo::PortData(InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(
                    hairpin,
                )])),
            ]));
        }
        message
    }
}

// === impl Link ===

impl Link {
    /// `None` for a message without a name.
    pub(super) fn from_message(message: &LinkMessage) -> Option<Self> {
        let flags = message.header.flags;
        let mut name = None;
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
                LinkAttribute::LinkInfo(infos) => link.read_info(infos),
                _ => {}
            }
        }
        Some(Self {
            name: name?,
            ..link
        })
    }

    fn read_info(&mut self, infos: &[LinkInfo]) {
        for info in infos {
            match info {
                LinkInfo::Kind(InfoKind::Bridge) => self.kind = LinkKind::Bridge,
                LinkInfo::Kind(InfoKind::Veth) => self.kind = LinkKind::Veth,
                LinkInfo::Kind(kind) => self.kind = LinkKind::Other(kind.to_string()),
                LinkInfo::Data(InfoData::Vxlan(attributes)) => {
                    if let Some(vxlan) = Vxlan::from_attributes(attributes) {
                        self.kind = LinkKind::Vxlan(vxlan);
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

fn mac_attribute(mac: Mac) -> LinkAttribute {
    LinkAttribute::Address(mac.0.to_vec())
}

fn set_up(message: &mut LinkMessage, up: bool) {
    message.header.flags.set(LinkFlags::Up, up);
    message.header.change_mask.insert(LinkFlags::Up);
}
