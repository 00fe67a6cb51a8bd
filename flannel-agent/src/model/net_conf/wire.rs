//! The keys of the network configuration, and what each may be.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use kernel::{Family, Vni};

use super::InvalidNetConf;
use crate::model::{Backend, IpipConf, Pool, VxlanConf, WireguardConf, WireguardMode};

/// The keys, in lower case; absent ones are Go's zero values.
#[derive(serde::Deserialize)]
#[serde(default)]
pub(super) struct Wire {
    pub(super) enableipv4: bool,
    pub(super) enableipv6: bool,
    pub(super) enablenftables: bool,
    network: Option<Ipv4Network>,
    subnetlen: u8,
    subnetmin: Option<Ipv4Addr>,
    subnetmax: Option<Ipv4Addr>,
    ipv6network: Option<Ipv6Network>,
    ipv6subnetlen: u8,
    ipv6subnetmin: Option<Ipv6Addr>,
    ipv6subnetmax: Option<Ipv6Addr>,
    pub(super) backend: Option<WireBackend>,
}

#[derive(serde::Deserialize)]
#[serde(default)]
pub(super) struct WireBackend {
    r#type: Option<String>,
    vni: u32,
    port: u16,
    mtu: u32,
    gbp: bool,
    learning: bool,
    directrouting: bool,
    psk: String,
    listenport: u16,
    listenportv6: u16,
    mode: String,
    persistentkeepaliveinterval: u16,
}

// === impl Wire ===

impl Default for Wire {
    fn default() -> Self {
        Self {
            enableipv4: true,
            enableipv6: false,
            enablenftables: true,
            network: None,
            subnetlen: 0,
            subnetmin: None,
            subnetmax: None,
            ipv6network: None,
            ipv6subnetlen: 0,
            ipv6subnetmin: None,
            ipv6subnetmax: None,
            backend: None,
        }
    }
}

impl Wire {
    pub(super) fn ipv4_pool(&self) -> Result<Pool, InvalidNetConf> {
        pool(
            "Network",
            self.network.map(IpNetwork::V4),
            self.subnetlen,
            self.subnetmin.map(IpAddr::V4),
            self.subnetmax.map(IpAddr::V4),
        )
    }

    pub(super) fn ipv6_pool(&self) -> Result<Pool, InvalidNetConf> {
        pool(
            "IPv6Network",
            self.ipv6network.map(IpNetwork::V6),
            self.ipv6subnetlen,
            self.ipv6subnetmin.map(IpAddr::V6),
            self.ipv6subnetmax.map(IpAddr::V6),
        )
    }
}

// === impl WireBackend ===

impl Default for WireBackend {
    fn default() -> Self {
        Self {
            r#type: None,
            vni: 1,
            port: 0,
            mtu: 0,
            gbp: false,
            learning: false,
            directrouting: false,
            psk: String::new(),
            listenport: WireguardConf::PORTS.0,
            listenportv6: WireguardConf::PORTS.1,
            mode: "separate".into(),
            persistentkeepaliveinterval: 0,
        }
    }
}

impl WireBackend {
    pub(super) fn check(self) -> Result<Backend, InvalidNetConf> {
        let kind = self.r#type.as_ref().ok_or(InvalidNetConf::NoBackend)?;
        match kind.to_ascii_lowercase().as_str() {
            "vxlan" => self.vxlan().map(Backend::Vxlan),
            "ipip" => Ok(Backend::Ipip(IpipConf {
                direct_routing: self.directrouting,
            })),
            "wireguard" => self.wireguard().map(Backend::Wireguard),
            "host-gw" => Ok(Backend::HostGw),
            "alloc" => Ok(Backend::Alloc),
            _ => Err(InvalidNetConf::UnknownBackend(kind.clone())),
        }
    }

    fn vxlan(&self) -> Result<VxlanConf, InvalidNetConf> {
        Ok(VxlanConf {
            vni: Vni::try_from(self.vni)?,
            port: if self.port == 0 {
                VxlanConf::PORT
            } else {
                self.port
            },
            mtu: self.mtu(),
            gbp: self.gbp,
            learning: self.learning,
            direct_routing: self.directrouting,
        })
    }

    fn wireguard(&self) -> Result<WireguardConf, InvalidNetConf> {
        for (key, port) in [
            ("ListenPort", self.listenport),
            ("ListenPortV6", self.listenportv6),
        ] {
            if port == 0 {
                return Err(InvalidNetConf::NoPort(key));
            }
        }
        let psk = (!self.psk.is_empty()).then(|| self.psk.parse());
        Ok(WireguardConf {
            psk: psk.transpose()?,
            listen_port: self.listenport,
            listen_port_v6: self.listenportv6,
            mtu: self.mtu(),
            mode: match self.mode.as_str() {
                "separate" => WireguardMode::Separate,
                "auto" => WireguardMode::Auto,
                "ipv4" => WireguardMode::Over(Family::V4),
                "ipv6" => WireguardMode::Over(Family::V6),
                other => return Err(InvalidNetConf::Mode(other.to_owned())),
            },
            keepalive: self.persistentkeepaliveinterval,
        })
    }

    fn mtu(&self) -> Option<u32> {
        (self.mtu != 0).then_some(self.mtu)
    }
}

/// Host bits of the network are dropped, as Go's `net.ParseCIDR` does.
fn pool(
    key: &'static str,
    network: Option<IpNetwork>,
    len: u8,
    min: Option<IpAddr>,
    max: Option<IpAddr>,
) -> Result<Pool, InvalidNetConf> {
    let network = network
        .and_then(|network| IpNetwork::new(network.network(), network.prefix()).ok())
        .ok_or(InvalidNetConf::NoNetwork(key))?;
    Ok(Pool::new(network, len, min, max)?)
}
