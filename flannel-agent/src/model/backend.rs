//! How subnets reach each other: the `Backend` object of the network configuration.

use kernel::{Family, IfName, InvalidIfName, Vni};

/// A way to carry packets between nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend {
    /// VXLAN (RFC 7348), spec 1.7.
    Vxlan(VxlanConf),
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
            Self::HostGw | Self::Alloc => false,
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
