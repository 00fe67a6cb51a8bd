//! The network configuration: the value of `<prefix>/config` (spec 1.1).

mod wire;

use ipnetwork::IpNetwork;
use kernel::{Family, InvalidIfName, InvalidVni, wireguard::InvalidKey};

use self::wire::Wire;
use super::{Backend, ByFamily, InvalidPool, PacketFilter, Pool, go_json};

/// A checked network configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetConf {
    /// The subnets to lease, of every enabled family.
    pub pools: ByFamily<Pool>,
    /// How subnets reach each other.
    pub backend: Backend,
    /// `EnableNFTables`: with flannel iptables is the default, here nftables is.
    pub packet_filter: PacketFilter,
}

/// Why a network configuration can't be used. The texts are flannel's, where it has one.
#[derive(Debug, thiserror::Error)]
pub enum InvalidNetConf {
    /// Not the JSON that it has to be.
    #[error("not a network configuration in JSON: {0}")]
    Syntax(#[from] serde_json::Error),
    /// No network for an enabled family.
    #[error("please define a correct {0} parameter in the flannel config")]
    NoNetwork(&'static str),
    /// Both families are switched off.
    #[error("EnableIPv4 and EnableIPv6 are both false: there is nothing to lease")]
    NoFamily,
    /// The subnets can't be cut.
    #[error(transparent)]
    Pool(#[from] InvalidPool),
    /// No backend is named. flannel takes that for the long deprecated udp.
    #[error(
        "Backend.Type is missing: want {{\"Backend\": {{\"Type\": \"vxlan\"}}}} \
         (flannel without one falls back to \"udp\", which is not supported)"
    )]
    NoBackend,
    /// The backend is not one of ours.
    #[error(
        "Backend.Type is {0:?}, which is not supported: want \"vxlan\", \"wireguard\", \"ipip\", \
         \"host-gw\" or \"alloc\""
    )]
    UnknownBackend(String),
    /// The backend carries no IPv6.
    #[error(
        "Backend.Type ipip carries IPv4 alone: set EnableIPv6 to false, or take another backend"
    )]
    IpipWithIpv6,
    /// A port that nobody can send to.
    #[error("Backend.{0} is 0: want 1 to 65535, or nothing for the usual one")]
    NoPort(&'static str),
    /// The key that all nodes know is none.
    #[error("Backend.PSK: {0}")]
    Psk(#[from] InvalidKey),
    /// There is no such mode.
    #[error("Backend.Mode is {0:?}: want \"separate\", \"auto\", \"ipv4\" or \"ipv6\"")]
    Mode(String),
    /// The network identifier is out of range.
    #[error("Backend.VNI: {0}")]
    Vni(#[from] InvalidVni),
    /// The network identifier is too long for the name of a device.
    #[error("Backend.VNI is too large for a device of its name: {0}")]
    DeviceName(#[from] InvalidIfName),
}

// === impl NetConf ===

impl NetConf {
    /// The network of each family that all nodes share.
    pub fn networks(&self) -> ByFamily<IpNetwork> {
        let pools = self.pools.iter();
        pools
            .map(|(family, pool)| (family, pool.network()))
            .collect()
    }

    /// Parses and checks a configuration.
    pub fn parse(text: &[u8]) -> Result<Self, InvalidNetConf> {
        let wire: Wire = go_json::parse(text)?;
        let mut pools = ByFamily::default();
        if wire.enableipv4 {
            pools.insert(Family::V4, wire.ipv4_pool()?);
        }
        if wire.enableipv6 {
            pools.insert(Family::V6, wire.ipv6_pool()?);
        }
        if pools.is_empty() {
            return Err(InvalidNetConf::NoFamily);
        }
        let backend = wire.backend.ok_or(InvalidNetConf::NoBackend)?.check()?;
        if let Backend::Vxlan(vxlan) = &backend {
            for (family, _) in pools.iter() {
                vxlan.device_name(family)?;
            }
        }
        if matches!(backend, Backend::Ipip(_)) && wire.enableipv6 {
            return Err(InvalidNetConf::IpipWithIpv6);
        }
        let packet_filter = if wire.enablenftables {
            PacketFilter::Nftables
        } else {
            PacketFilter::Iptables
        };
        Ok(Self {
            pools,
            backend,
            packet_filter,
        })
    }
}

#[cfg(test)]
mod tests;
