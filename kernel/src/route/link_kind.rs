//! What interfaces are, to and from rtnetlink attributes.

use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_route::link::{
    InfoData, InfoIpTunnel, InfoKind, InfoVeth, InfoVlan, InfoVxlan, LinkAttribute, LinkInfo,
    LinkMessage,
};

use super::{
    IfIndex, Ipip, LinkKind, NewLinkKind, VethPeer, Vlan, Vxlan, link::VXLAN_PORT,
    link_message::mac_attribute,
};
use crate::Vni;

// === impl NewLinkKind ===

impl NewLinkKind {
    pub(super) fn to_infos(&self) -> Vec<LinkInfo> {
        let (kind, data) = match self {
            Self::Bridge => (InfoKind::Bridge, None),
            Self::Wireguard => (InfoKind::Wireguard, None),
            Self::Dummy => (InfoKind::Dummy, None),
            Self::Ifb => (InfoKind::Ifb, None),
            Self::Veth(peer) => {
                let peer = InfoVeth::Peer(peer.to_message());
                (InfoKind::Veth, Some(InfoData::Veth(peer)))
            }
            Self::Vxlan(vxlan) => {
                let data = InfoData::Vxlan(vxlan.to_attributes());
                (InfoKind::Vxlan, Some(data))
            }
            Self::Ipip(ipip) => {
                let data = InfoData::IpTunnel(ipip.to_attributes());
                (InfoKind::IpIp, Some(data))
            }
            Self::Vlan(vlan) => {
                let data = InfoData::Vlan(vec![InfoVlan::Id(vlan.id)]);
                (InfoKind::Vlan, Some(data))
            }
        };
        let mut infos = vec![LinkInfo::Kind(kind)];
        infos.extend(data.map(LinkInfo::Data));
        infos
    }
}

// === impl LinkKind ===

impl LinkKind {
    /// A kind that has no parameters, or whose parameters could not be read.
    pub(super) fn without_data(kind: &InfoKind) -> Self {
        match kind {
            InfoKind::Bridge => Self::Bridge,
            InfoKind::Veth => Self::Veth,
            InfoKind::Wireguard => Self::Wireguard,
            InfoKind::Dummy => Self::Dummy,
            InfoKind::Ifb => Self::Ifb,
            kind => Self::Other(kind.to_string()),
        }
    }

    /// A kind with parameters, once the name of the kind is known. `parent` is the interface below.
    pub(super) fn with_data(&self, data: &InfoData, parent: Option<IfIndex>) -> Option<Self> {
        match data {
            InfoData::Vxlan(attributes) => Vxlan::from_attributes(attributes).map(Self::Vxlan),
            // sit and ip6tnl have data of the same form.
            InfoData::IpTunnel(attributes) if *self == Self::without_data(&InfoKind::IpIp) => {
                Some(Self::Ipip(Ipip::from_attributes(attributes)))
            }
            InfoData::Vlan(attributes) => attributes.iter().find_map(|attribute| match attribute {
                InfoVlan::Id(id) => parent.map(|parent| Self::Vlan(Vlan { id: *id, parent })),
                _ => None,
            }),
            _ => None,
        }
    }
}

// === impl VethPeer ===

impl VethPeer {
    /// What both ends of a pair are made with. Where nobody says how many queues there are to be, the kernel
    /// makes one for each processor, uses one of them, and to put the others out of use waits for an RCU
    /// grace period with all of rtnetlink locked (`veth_init_queues`, `netif_set_real_num_tx_queues`).
    pub(super) const ONE_QUEUE: [LinkAttribute; 2] =
        [LinkAttribute::NumTxQueues(1), LinkAttribute::NumRxQueues(1)];

    fn to_message(&self) -> LinkMessage {
        let mut message = LinkMessage::default();
        let attributes = &mut message.attributes;
        attributes.push(LinkAttribute::IfName(self.name.to_string()));
        attributes.extend(Self::ONE_QUEUE);
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

// === impl Ipip ===

impl Ipip {
    fn to_attributes(&self) -> Vec<InfoIpTunnel> {
        let mut attributes = vec![InfoIpTunnel::PMtuDisc(self.path_mtu_discovery)];
        attributes.extend(self.local.map(|local| InfoIpTunnel::Local(local.into())));
        attributes.extend(
            self.remote
                .map(|remote| InfoIpTunnel::Remote(remote.into())),
        );
        attributes.extend(self.parent.map(|parent| InfoIpTunnel::Link(parent.0)));
        attributes
    }

    fn from_attributes(attributes: &[InfoIpTunnel]) -> Self {
        let mut ipip = Self {
            local: None,
            remote: None,
            parent: None,
            path_mtu_discovery: false,
        };
        for attribute in attributes {
            match attribute {
                InfoIpTunnel::Local(IpAddr::V4(ip)) => ipip.local = specified(*ip),
                InfoIpTunnel::Remote(IpAddr::V4(ip)) => ipip.remote = specified(*ip),
                InfoIpTunnel::Link(index) if *index != 0 => ipip.parent = Some(IfIndex(*index)),
                InfoIpTunnel::PMtuDisc(on) => ipip.path_mtu_discovery = *on,
                _ => {}
            }
        }
        ipip
    }
}

fn specified(address: Ipv4Addr) -> Option<Ipv4Addr> {
    (!address.is_unspecified()).then_some(address)
}
