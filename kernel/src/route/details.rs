//! What else there is to know of an interface.

use netlink_packet_route::link::{
    InfoBridge, InfoBridgePort, InfoData, InfoPortData, LinkAttribute, LinkFlags, LinkInfo,
    LinkMessage, State,
};

/// What else there is to know of an interface, beside [`Link`](super::Link).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkDetails {
    /// Its operational state.
    pub state: OperState,
    /// Whether it was asked to receive frames that are for others.
    pub promiscuous: bool,
    /// Whether it was asked to receive every multicast frame.
    pub all_multicast: bool,
    /// Length of its transmit queue in packets.
    pub tx_queue_len: u32,
    /// `IFLA_LINK_NETNSID`: the namespace that a veth's peer or the device below is in, by its number
    /// in this namespace (`ip netns list-id`); `None` if it is this one.
    pub parent_namespace: Option<i32>,
    /// Its alias (`ip link set DEV alias TEXT`).
    pub alias: Option<String>,
    /// For a bridge: whether ports see those VLANs only that they are members of.
    pub vlan_filtering: Option<bool>,
    /// For a bridge port: its settings.
    pub port: Option<PortDetails>,
}

/// The operational state of an interface (RFC 2863, `IFLA_OPERSTATE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperState {
    /// The driver does not say: to be taken as up if the interface has a carrier (as loopback, tunnels).
    Unknown,
    /// Down.
    Down,
    /// Down because the device below, or a veth's peer, is down.
    LowerLayerDown,
    /// Up, but waiting for something outside (802.1X).
    Dormant,
    /// Packets can be sent.
    Up,
}

/// The settings of a bridge port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortDetails {
    /// Whether frames may leave by the port that they came in by.
    pub hairpin: bool,
    /// Whether it may talk to those ports only that are not isolated.
    pub isolated: bool,
    /// Whether the bridge learns addresses from received frames.
    pub learning: bool,
}

// === impl LinkDetails ===

impl LinkDetails {
    pub(super) fn from_message(message: &LinkMessage) -> Self {
        let flags = message.header.flags;
        let mut details = Self {
            state: OperState::Unknown,
            promiscuous: flags.contains(LinkFlags::Promisc),
            all_multicast: flags.contains(LinkFlags::Allmulti),
            tx_queue_len: 0,
            parent_namespace: None,
            alias: None,
            vlan_filtering: None,
            port: None,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::OperState(state) => details.state = (*state).into(),
                LinkAttribute::TxQueueLen(len) => details.tx_queue_len = *len,
                LinkAttribute::LinkNetNsId(id) => details.parent_namespace = Some(*id),
                LinkAttribute::IfAlias(text) => details.alias = Some(text.clone()),
                LinkAttribute::LinkInfo(infos) => details.read_infos(infos),
                _ => {}
            }
        }
        details
    }

    fn read_infos(&mut self, infos: &[LinkInfo]) {
        for info in infos {
            match info {
                LinkInfo::Data(InfoData::Bridge(attributes)) => {
                    self.vlan_filtering = attributes.iter().find_map(|attribute| match attribute {
                        InfoBridge::VlanFiltering(on) => Some(*on),
                        _ => None,
                    });
                }
                LinkInfo::PortData(InfoPortData::BridgePort(attributes)) => {
                    self.port = Some(PortDetails::from_attributes(attributes));
                }
                _ => {}
            }
        }
    }
}

// === impl OperState ===

impl From<State> for OperState {
    fn from(state: State) -> Self {
        match state {
            State::Down | State::NotPresent => Self::Down,
            State::LowerLayerDown => Self::LowerLayerDown,
            State::Dormant | State::Testing => Self::Dormant,
            State::Up => Self::Up,
            _ => Self::Unknown,
        }
    }
}

// === impl PortDetails ===

impl PortDetails {
    fn from_attributes(attributes: &[InfoBridgePort]) -> Self {
        let mut port = Self::default();
        for attribute in attributes {
            match attribute {
                InfoBridgePort::HairpinMode(on) => port.hairpin = *on,
                InfoBridgePort::Isolated(on) => port.isolated = *on,
                InfoBridgePort::Learning(on) => port.learning = *on,
                _ => {}
            }
        }
        port
    }
}
