//! Changes to interfaces as rtnetlink messages.

use netlink_packet_route::link::{
    InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, LinkAttribute,
    LinkFlags, LinkInfo, LinkMessage,
};

use super::{
    IfIndex, LinkSettings,
    link_message::{mac_attribute, set_flag},
};

// === impl LinkSettings ===

impl LinkSettings {
    pub(super) fn to_message(&self, index: IfIndex) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = index.0;
        for (flag, on) in [
            (LinkFlags::Up, self.up),
            (LinkFlags::Promisc, self.promiscuous),
            (LinkFlags::Allmulti, self.all_multicast),
        ] {
            if let Some(on) = on {
                set_flag(&mut message, flag, on);
            }
        }
        let attributes = &mut message.attributes;
        attributes.extend(self.mtu.map(LinkAttribute::Mtu));
        attributes.extend(self.mac.map(mac_attribute));
        attributes.extend(
            self.master
                .map(|master| LinkAttribute::Controller(master.0)),
        );
        attributes.extend(self.tx_queue_len.map(LinkAttribute::TxQueueLen));
        attributes.extend(self.alias.clone().map(LinkAttribute::IfAlias));
        attributes.extend(
            self.name
                .as_ref()
                .map(|name| LinkAttribute::IfName(name.to_string())),
        );
        attributes.extend(self.namespace.map(LinkAttribute::NetNsFd));
        let infos: Vec<_> = self.bridge_infos().chain(self.port_infos()).collect();
        if !infos.is_empty() {
            attributes.push(LinkAttribute::LinkInfo(infos));
        }
        message
    }

    fn bridge_infos(&self) -> impl Iterator<Item = LinkInfo> {
        let infos = self.vlan_filtering.map(|on| {
            [
                LinkInfo::Kind(InfoKind::Bridge),
                LinkInfo::Data(InfoData::Bridge(vec![InfoBridge::VlanFiltering(on)])),
            ]
        });
        infos.into_iter().flatten()
    }

    fn port_infos(&self) -> impl Iterator<Item = LinkInfo> {
        let settings: Vec<_> = [
            self.hairpin.map(InfoBridgePort::HairpinMode),
            self.isolated.map(InfoBridgePort::Isolated),
            self.learning.map(InfoBridgePort::Learning),
        ]
        .into_iter()
        .flatten()
        .collect();
        let infos = (!settings.is_empty()).then_some([
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(settings)),
        ]);
        infos.into_iter().flatten()
    }
}
