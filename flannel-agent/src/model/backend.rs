//! How subnets reach each other: the `Backend` object of the network configuration.

use kernel::{Family, IfName, InvalidIfName, Vni, wireguard::SecretKey};

/// A way to carry packets between nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend {
    /// VXLAN (RFC 7348), spec 1.7.
    Vxlan(VxlanConf),
    /// IPv4 in IPv4 (RFC 2003).
    Ipip(IpipConf),
    /// WireGuard: encrypted.
    Wireguard(WireguardConf),
    /// Plain routes by the nodes' addresses, which all have to be on one link.
    HostGw,
    /// None: nodes lease subnets, and something else carries their packets.
    Alloc,
}

/// The parameters of the VXLAN backend (spec 1.1, table of backend keys).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VxlanConf {
    /// Network identifier.
    pub vni: Vni,
    /// UDP destination port.
    pub port: u16,
    /// MTU of the underlay in bytes, where it is not the external interface's.
    pub mtu: Option<u32>,
    /// Group based policy extension.
    pub gbp: bool,
    /// Whether devices learn forwarding entries from packets.
    pub learning: bool,
    /// Whether nodes that are on this node's link are reached without a tunnel.
    pub direct_routing: bool,
}

/// The parameters of the ipip backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpipConf {
    /// Whether nodes that are on this node's link are reached without a tunnel.
    pub direct_routing: bool,
}

/// The parameters of the WireGuard backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireguardConf {
    /// A key that all nodes know in addition to their own.
    pub psk: Option<SecretKey>,
    /// The UDP port of the device, in separate mode of that for IPv4.
    pub listen_port: u16,
    /// The UDP port of the device for IPv6 in separate mode.
    pub listen_port_v6: u16,
    /// MTU of the underlay in bytes, where it is not the external interface's.
    pub mtu: Option<u32>,
    /// Which devices there are, and by which addresses nodes talk.
    pub mode: WireguardMode,
    /// Seconds between packets that keep the path open; 0: none are sent.
    pub keepalive: u16,
}

/// Which WireGuard devices there are, and by which addresses nodes talk to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireguardMode {
    /// A device for each family, over its own.
    Separate,
    /// One device, over the family that is likelier to work.
    Auto,
    /// One device, over this family.
    Over(Family),
}

/// What keeps the rules for masquerading and forwarding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketFilter {
    /// nftables: unless the configuration says otherwise.
    Nftables,
    /// iptables, by flannel's rules: where `EnableNFTables` is false.
    Iptables,
}

// === impl Backend ===

impl Backend {
    /// Whether nodes on this node's link are reached without a tunnel, and others with one.
    pub const fn routes_directly(&self) -> bool {
        match self {
            Self::Vxlan(conf) => conf.direct_routing,
            Self::Ipip(conf) => conf.direct_routing,
            Self::Wireguard(_) | Self::HostGw | Self::Alloc => false,
        }
    }
}

// === impl VxlanConf ===

impl VxlanConf {
    /// The port where none is configured: the kernel's default, older than the one of IANA.
    pub const PORT: u16 = 8472;

    /// The name of the device of a family.
    pub fn device_name(&self, family: Family) -> Result<IfName, InvalidIfName> {
        Self::name_of_device(family, self.vni)
    }

    /// The name of the device of a family for a network identifier.
    pub fn name_of_device(family: Family, vni: Vni) -> Result<IfName, InvalidIfName> {
        match family {
            Family::V4 => format!("flannel.{vni}"),
            Family::V6 => format!("flannel-v6.{vni}"),
        }
        .parse()
    }
}

// === impl IpipConf ===

impl IpipConf {
    /// The name of the device.
    pub fn device_name() -> Result<IfName, InvalidIfName> {
        "flannel.ipip".parse()
    }
}

// === impl WireguardConf ===

impl WireguardConf {
    /// The ports where none are configured, of the devices of both families.
    pub const PORTS: (u16, u16) = (51820, 51821);

    /// The name of the device that carries packets of a family.
    pub fn device_name(&self, family: Family) -> Result<IfName, InvalidIfName> {
        Self::name_of_device(self.device_family(family))
    }

    /// The name of the device of a family in separate mode.
    pub fn name_of_device(family: Family) -> Result<IfName, InvalidIfName> {
        match family {
            Family::V4 => "flannel-wg",
            Family::V6 => "flannel-wg-v6",
        }
        .parse()
    }

    /// The UDP port of the device that carries packets of a family.
    pub fn port(&self, family: Family) -> u16 {
        match self.device_family(family) {
            Family::V4 => self.listen_port,
            Family::V6 => self.listen_port_v6,
        }
    }

    /// A device that carries both families is that of IPv4.
    fn device_family(&self, family: Family) -> Family {
        match self.mode {
            WireguardMode::Separate => family,
            WireguardMode::Auto | WireguardMode::Over(_) => Family::V4,
        }
    }
}
