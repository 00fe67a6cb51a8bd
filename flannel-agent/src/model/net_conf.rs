//! The network configuration: the value of `<prefix>/config` (spec 1.1).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use kernel::{Family, InvalidIfName, InvalidVni, Vni, wireguard::InvalidKey};

use super::{
    Backend, ByFamily, InvalidPool, IpipConf, PacketFilter, Pool, VxlanConf, WireguardConf,
    WireguardMode, go_json,
};

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

/// The keys, in lower case; absent ones are Go's zero values.
#[derive(serde::Deserialize)]
#[serde(default)]
struct Wire {
    enableipv4: bool,
    enableipv6: bool,
    enablenftables: bool,
    network: Option<Ipv4Network>,
    subnetlen: u8,
    subnetmin: Option<Ipv4Addr>,
    subnetmax: Option<Ipv4Addr>,
    ipv6network: Option<Ipv6Network>,
    ipv6subnetlen: u8,
    ipv6subnetmin: Option<Ipv6Addr>,
    ipv6subnetmax: Option<Ipv6Addr>,
    backend: Option<WireBackend>,
}

#[derive(serde::Deserialize)]
#[serde(default)]
struct WireBackend {
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
    fn ipv4_pool(&self) -> Result<Pool, InvalidNetConf> {
        pool(
            "Network",
            self.network.map(IpNetwork::V4),
            self.subnetlen,
            self.subnetmin.map(IpAddr::V4),
            self.subnetmax.map(IpAddr::V4),
        )
    }

    fn ipv6_pool(&self) -> Result<Pool, InvalidNetConf> {
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
    fn check(self) -> Result<Backend, InvalidNetConf> {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<NetConf, String> {
        NetConf::parse(text.as_bytes()).map_err(|error| error.to_string())
    }

    fn vxlan(text: &str) -> VxlanConf {
        match parse(text).unwrap().backend {
            Backend::Vxlan(conf) => conf,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn defaults_are_flannels() {
        let conf = parse(r#"{"Network":"10.3.7.0/16","Backend":{"Type":"vxlan"}}"#).unwrap();
        let pool = conf.pools.get(Family::V4).unwrap();
        assert_eq!(pool.network(), "10.3.0.0/16".parse().unwrap());
        assert_eq!(pool.subnet(0), Some("10.3.1.0/24".parse().unwrap()));
        assert_eq!(conf.pools.get(Family::V6), None);
        let vni = 1.try_into().unwrap();
        let backend = VxlanConf {
            vni,
            port: 8472,
            mtu: None,
            gbp: false,
            learning: false,
            direct_routing: false,
        };
        assert_eq!(conf.backend, Backend::Vxlan(backend));
    }

    #[test]
    fn keys_match_in_any_case_and_unknown_ones_are_ignored() {
        let conf = vxlan(
            r#"{"network":"10.3.0.0/16","x":1,"BACKEND":{"TYPE":"VXLAN","vni":9,"PORT":4789,"Mtu":1400,"gbp":true,"Learning":true,"directrouting":true,"y":[]}}"#,
        );
        let vni = 9.try_into().unwrap();
        assert_eq!(
            conf,
            VxlanConf {
                vni,
                port: 4789,
                mtu: Some(1400),
                gbp: true,
                learning: true,
                direct_routing: true,
            }
        );
        assert_eq!(
            conf.device_name(Family::V6).unwrap().as_str(),
            "flannel-v6.9"
        );
    }

    #[test]
    fn other_backends_are_known_by_flannels_names() {
        let ipip = IpipConf {
            direct_routing: false,
        };
        for (name, backend) in [
            ("Host-GW", Backend::HostGw),
            ("alloc", Backend::Alloc),
            ("ipip", Backend::Ipip(ipip)),
        ] {
            let text = format!(r#"{{"Network":"10.3.0.0/16","Backend":{{"Type":"{name}"}}}}"#);
            assert_eq!(parse(&text).unwrap().backend, backend);
        }
    }

    #[test]
    fn wireguard_has_flannels_keys_and_defaults() {
        let wireguard = |keys: &str| {
            let backend = format!(r#"{{"Type":"wireguard"{keys}}}"#);
            parse(&format!(
                r#"{{"Network":"10.3.0.0/16","Backend":{backend}}}"#
            ))
            .map(|conf| conf.backend)
        };
        let defaults = WireguardConf {
            psk: None,
            listen_port: 51820,
            listen_port_v6: 51821,
            mtu: None,
            mode: WireguardMode::Separate,
            keepalive: 0,
        };
        assert_eq!(wireguard(""), Ok(Backend::Wireguard(defaults)));
        let psk = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
        let keys = format!(
            r#","PSK":"{psk}","ListenPort":1,"ListenPortV6":2,"MTU":1400,"Mode":"ipv6","PersistentKeepaliveInterval":25"#
        );
        let all = WireguardConf {
            psk: Some(psk.parse().unwrap()),
            listen_port: 1,
            listen_port_v6: 2,
            mtu: Some(1400),
            mode: WireguardMode::Over(Family::V6),
            keepalive: 25,
        };
        assert_eq!(wireguard(&keys), Ok(Backend::Wireguard(all)));
        for (keys, error) in [
            (r#","PSK":"secret""#, "Backend.PSK: not a WireGuard key"),
            (r#","ListenPort":0"#, "Backend.ListenPort is 0: want 1 to"),
            (r#","Mode":"both""#, "Backend.Mode is \"both\": want \"sep"),
        ] {
            let found = wireguard(keys).unwrap_err();
            assert!(found.starts_with(error), "{found}");
            assert!(!found.contains("secret"), "{found}");
        }
    }

    #[test]
    fn dual_stack_has_two_pools() {
        let conf = parse(
            r#"{"Network":"10.3.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/48","Backend":{"Type":"vxlan"}}"#,
        )
        .unwrap();
        let pool = conf.pools.get(Family::V6).unwrap();
        assert_eq!(pool.subnet(0), Some("fc00:0:0:1::/64".parse().unwrap()));
    }

    #[test]
    fn ipv6_can_be_alone_whatever_is_said_of_ipv4() {
        let conf = parse(
            r#"{"Network":"10.3.0.0/16","EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fc00::/48","Backend":{"Type":"vxlan"}}"#,
        )
        .unwrap();
        let families: Vec<_> = conf.pools.iter().map(|(family, _)| family).collect();
        assert_eq!(families, [Family::V6]);
    }

    #[test]
    fn errors_name_the_key() {
        for (text, error) in [
            (
                "{}",
                "please define a correct Network parameter in the flannel config",
            ),
            (
                r#"{"Network":"10.3.0.0/16","EnableIPv6":true}"#,
                "please define a correct IPv6Network parameter in the flannel config",
            ),
            (r#"{"Network":"10.3.0.0/16"}"#, "Backend.Type is missing"),
            (
                r#"{"Network":"10.3.0.0/16","Backend":{}}"#,
                "Backend.Type is missing",
            ),
            (
                r#"{"Network":"10.3.0.0/16","Backend":{"Type":"UDP"}}"#,
                "Backend.Type is \"UDP\"",
            ),
            (
                r#"{"Network":"10.3.0.0/16","Backend":{"Type":"vxlan","VNI":16777216}}"#,
                "Backend.VNI: VNI 16777216 is out of range",
            ),
            (
                r#"{"Network":"10.3.0.0/16","Backend":{"Type":"vxlan","VNI":16777215}}"#,
                "Backend.VNI is too large for a device of its name",
            ),
            (
                r#"{"Network":"10.3.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/48","Backend":{"Type":"ipip"}}"#,
                "Backend.Type ipip carries IPv4 alone",
            ),
            (
                r#"{"EnableIPv4":false}"#,
                "EnableIPv4 and EnableIPv6 are both false",
            ),
            (
                r#"{"Network":"10.3.0.0/33"}"#,
                "not a network configuration in JSON: ",
            ),
            (
                r#"{"Network":"10.3.0.0/16","SubnetLen":"24"}"#,
                "not a network configuration in JSON: ",
            ),
            ("", "not a network configuration in JSON: "),
        ] {
            let found = parse(text).unwrap_err();
            assert!(found.starts_with(error), "{text}: {found}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(
            text in r#"(\{("(Network|SubnetLen|SubnetMin|EnableIPv6|IPv6Network|IPv6SubnetMin|Backend)":(null|-?[0-9]{1,4}|true|"[0-9a-f.:/]{0,14}"|"10\.[0-9]\.0\.0/[0-9]{1,2}"|"fc00::/[0-9]{1,3}"|\{"Type":"vxlan"\}),?){0,5}\})|.{0,40}"#,
        ) {
            drop(parse(&text));
        }
    }

    #[test]
    fn every_key_is_in_the_reference() {
        reference::every_key_is_documented("net-conf.json", &reference::keys::<Wire>());
    }
}
