//! What a node has for the subnets of one family: a device or none, and what is left of the MTU.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use kernel::{Family, IfName, InvalidIfName, route::Vxlan};

use super::{Device, DeviceKind, vtep_mac};
use crate::model::{Backend, IpipConf, Underlay, VxlanConf, WireguardConf, WireguardMode};

/// The overlay of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// The network that all nodes share.
    pub network: IpNetwork,
    /// The device that packets to other nodes leave by, where it is not the external interface.
    pub device: Option<Device>,
    /// MTU for pods in bytes.
    pub mtu: u32,
}

/// Why there can be no overlay for a family.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoOverlay {
    /// The underlay has no address of the family.
    #[error("interface {interface} has no {family} address, which the {family} overlay needs")]
    NoAddress {
        /// The external interface.
        interface: IfName,
        /// The family.
        family: Family,
    },
    /// What is left for packets is less than IP needs.
    #[error(
        "an MTU of {underlay} leaves {left} bytes for packets in {tunnel} over {family}, which needs {least}; \
         raise the interface's MTU or Backend.MTU"
    )]
    MtuTooSmall {
        /// MTU of the underlay.
        underlay: u32,
        /// What packets are carried in.
        tunnel: &'static str,
        /// What is left of it.
        left: u32,
        /// The family.
        family: Family,
        /// The least MTU that the family works with.
        least: u32,
    },
    /// Other nodes send to an address that can't be a gateway. The text is flannel's.
    #[error(
        "your PublicIP differs from interface IP, meaning that probably you're on a NAT, which is not \
         supported by host-gw backend ({interface} has {own}, the public address is {public})"
    )]
    Nat {
        /// The external interface.
        interface: IfName,
        /// Its address.
        own: IpAddr,
        /// The address that other nodes send to.
        public: IpAddr,
    },
    /// The configuration makes a name that can't be.
    #[error(transparent)]
    Name(#[from] InvalidIfName),
}

// === impl Overlay ===

impl Overlay {
    /// The overlay of a family on an underlay; Ethernet addresses are computed from `node`.
    pub fn new(
        family: Family,
        network: IpNetwork,
        backend: &Backend,
        underlay: &Underlay,
        node: &str,
    ) -> Result<Self, NoOverlay> {
        let local = local_address(carrier(family, backend, underlay), underlay)?;
        let device = match backend {
            Backend::Vxlan(conf) => Some(vxlan(family, conf, underlay, local, node)?),
            Backend::Ipip(_) => Some(ipip(underlay, local)?),
            Backend::Wireguard(conf) => Some(wireguard(family, conf, underlay)?),
            Backend::HostGw => {
                refuse_nat(family, underlay, local)?;
                None
            }
            Backend::Alloc => None,
        };
        Ok(Self {
            network,
            mtu: device.as_ref().map_or(underlay.mtu, |device| device.mtu),
            device,
        })
    }
}

/// The family of the packets between nodes that carry those of a family.
fn carrier(family: Family, backend: &Backend, underlay: &Underlay) -> Family {
    let mode = match backend {
        Backend::Wireguard(conf) => conf.mode,
        _ => WireguardMode::Separate,
    };
    match mode {
        WireguardMode::Separate => family,
        WireguardMode::Over(carrier) => carrier,
        WireguardMode::Auto if underlay.addresses.get(Family::V4).is_none() => Family::V6,
        WireguardMode::Auto => Family::V4,
    }
}

fn local_address(family: Family, underlay: &Underlay) -> Result<IpAddr, NoOverlay> {
    let address = underlay.addresses.get(family).copied();
    address.ok_or_else(|| NoOverlay::NoAddress {
        interface: underlay.name.clone(),
        family,
    })
}

/// The VXLAN device of a family. Its `local` address is the interface's own and not the public one: with
/// an address that the node does not have, the kernel sends nothing.
fn vxlan(
    family: Family,
    conf: &VxlanConf,
    underlay: &Underlay,
    local: IpAddr,
    node: &str,
) -> Result<Device, NoOverlay> {
    // Outer IP header, UDP 8, VXLAN 8 and inner Ethernet 14 bytes (RFC 7348, section 5). flannel takes
    // 50 off for IPv6 as well, which is 20 too few.
    let overhead = match family {
        Family::V4 => 50,
        Family::V6 => 70,
    };
    Ok(Device {
        name: conf.device_name(family)?,
        kind: DeviceKind::Vxlan(Vxlan {
            vni: conf.vni,
            parent: Some(underlay.interface),
            local: Some(local),
            port: conf.port,
            learning: conf.learning,
            gbp: conf.gbp,
        }),
        mac: Some(vtep_mac(node, family, conf.vni)),
        mtu: mtu(family, "VXLAN", conf.mtu.unwrap_or(underlay.mtu), overhead)?,
    })
}

/// The device of all IPv4 in IPv4 tunnels. Nothing else has this address at its own end and none at the
/// other: the kernel's `tunl0` has neither.
fn ipip(underlay: &Underlay, local: IpAddr) -> Result<Device, NoOverlay> {
    let IpAddr::V4(local) = local else {
        return Err(NoOverlay::NoAddress {
            interface: underlay.name.clone(),
            family: Family::V4,
        });
    };
    Ok(Device {
        name: IpipConf::device_name()?,
        kind: DeviceKind::Ipip(local),
        mac: None,
        mtu: mtu(Family::V4, "IPv4", underlay.mtu, 20)?,
    })
}

/// The WireGuard device that carries packets of a family.
fn wireguard(
    family: Family,
    conf: &WireguardConf,
    underlay: &Underlay,
) -> Result<Device, NoOverlay> {
    // Outer IPv6 header 40, UDP 8, type 4, key 4, counter 8 and authentication tag 16 bytes. Over IPv4
    // 20 would be left, but all nodes should have one MTU, and flannel's have this.
    const OVERHEAD: u32 = 80;
    let underlay = conf.mtu.unwrap_or(underlay.mtu);
    Ok(Device {
        name: conf.device_name(family)?,
        kind: DeviceKind::Wireguard,
        mac: None,
        mtu: mtu(family, "WireGuard", underlay, OVERHEAD)?,
    })
}

fn refuse_nat(family: Family, underlay: &Underlay, own: IpAddr) -> Result<(), NoOverlay> {
    match underlay.public.get(family) {
        Some(public) if *public != own => Err(NoOverlay::Nat {
            interface: underlay.name.clone(),
            own,
            public: *public,
        }),
        _ => Ok(()),
    }
}

/// What a tunnel leaves of the underlay's MTU.
fn mtu(
    family: Family,
    tunnel: &'static str,
    underlay: u32,
    overhead: u32,
) -> Result<u32, NoOverlay> {
    let least = match family {
        Family::V4 => 68,
        Family::V6 => 1280,
    };
    let left = underlay.saturating_sub(overhead);
    if left < least {
        return Err(NoOverlay::MtuTooSmall {
            underlay,
            tunnel,
            left,
            family,
            least,
        });
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use kernel::route::IfIndex;

    use super::*;
    use crate::model::ByFamily;

    fn by_family(texts: &[&str]) -> ByFamily<IpAddr> {
        let parsed = texts.iter().map(|text| text.parse().unwrap());
        parsed.map(|ip| (Family::of(&ip), ip)).collect()
    }

    fn underlay() -> Underlay {
        Underlay {
            name: "eth0".parse().unwrap(),
            interface: IfIndex(2),
            mtu: 1500,
            addresses: by_family(&["192.168.1.2", "fd00::2"]),
            public: by_family(&["192.168.1.2", "fd00::2"]),
        }
    }

    fn conf() -> VxlanConf {
        VxlanConf {
            vni: 1.try_into().unwrap(),
            port: 8472,
            mtu: None,
            gbp: false,
            learning: false,
            direct_routing: false,
        }
    }

    fn overlay(
        family: Family,
        backend: &Backend,
        underlay: &Underlay,
    ) -> Result<Overlay, NoOverlay> {
        let network = match family {
            Family::V4 => "10.5.0.0/16",
            Family::V6 => "fc00::/48",
        };
        Overlay::new(family, network.parse().unwrap(), backend, underlay, "node")
    }

    #[test]
    fn the_vxlan_device_stands_on_the_interfaces_own_address() {
        let behind_nat = Underlay {
            public: by_family(&["203.0.113.7", "fd00::2"]),
            ..underlay()
        };
        for (family, local, mtu) in [
            (Family::V4, "192.168.1.2", 1450),
            (Family::V6, "fd00::2", 1430),
        ] {
            let overlay = overlay(family, &Backend::Vxlan(conf()), &behind_nat).unwrap();
            let device = overlay.device.unwrap();
            assert_eq!(device.mac, Some(vtep_mac("node", family, conf().vni)));
            assert_eq!((device.mtu, overlay.mtu), (mtu, mtu));
            let DeviceKind::Vxlan(vxlan) = device.kind else {
                panic!("{device:?}");
            };
            assert_eq!(vxlan.local, Some(local.parse().unwrap()));
        }
    }

    #[test]
    fn vxlan_has_what_is_configured() {
        let conf = VxlanConf {
            vni: 9.try_into().unwrap(),
            port: 4789,
            mtu: Some(1400),
            gbp: true,
            learning: true,
            direct_routing: true,
        };
        let overlay = overlay(Family::V4, &Backend::Vxlan(conf), &underlay()).unwrap();
        let device = overlay.device.unwrap();
        assert_eq!(device.name.as_str(), "flannel.9");
        assert_eq!(device.mtu, 1350);
        let DeviceKind::Vxlan(vxlan) = device.kind else {
            panic!("{:?}", device.kind);
        };
        assert!(vxlan.gbp && vxlan.learning && vxlan.port == 4789);
    }

    #[test]
    fn ipip_takes_one_header_off() {
        let backend = Backend::Ipip(IpipConf {
            direct_routing: false,
        });
        let device = overlay(Family::V4, &backend, &underlay()).unwrap().device;
        let device = device.unwrap();
        let local = "192.168.1.2".parse().unwrap();
        assert_eq!((device.kind, device.mtu), (DeviceKind::Ipip(local), 1480));
    }

    #[test]
    fn wireguard_has_a_device_for_each_family_or_for_both() {
        let ipv6_only = Underlay {
            addresses: by_family(&["fd00::2"]),
            ..underlay()
        };
        let over = WireguardMode::Over;
        for (mode, family, underlay, name) in [
            (
                WireguardMode::Separate,
                Family::V4,
                &underlay(),
                "flannel-wg",
            ),
            (
                WireguardMode::Separate,
                Family::V6,
                &underlay(),
                "flannel-wg-v6",
            ),
            (WireguardMode::Auto, Family::V6, &underlay(), "flannel-wg"),
            (WireguardMode::Auto, Family::V4, &ipv6_only, "flannel-wg"),
            (over(Family::V6), Family::V4, &ipv6_only, "flannel-wg"),
            (over(Family::V4), Family::V6, &ipv6_only, ""),
            (WireguardMode::Separate, Family::V4, &ipv6_only, ""),
        ] {
            let conf = WireguardConf {
                psk: None,
                listen_port: 51820,
                listen_port_v6: 51821,
                mtu: None,
                mode,
                keepalive: 0,
            };
            let overlay = overlay(family, &Backend::Wireguard(conf), underlay);
            let device = overlay.ok().and_then(|overlay| overlay.device);
            let found = device.map(|it| (it.name.to_string(), it.mtu));
            let wanted = (!name.is_empty()).then(|| (name.to_owned(), 1420));
            assert_eq!(found, wanted, "{mode:?} {family}");
        }
    }

    #[test]
    fn no_tunnel_leaves_all_of_the_mtu() {
        for backend in [Backend::HostGw, Backend::Alloc] {
            let overlay = overlay(Family::V6, &backend, &underlay()).unwrap();
            assert_eq!((overlay.device, overlay.mtu), (None, 1500));
        }
    }

    #[test]
    fn errors_say_what_is_missing() {
        let ipv4_only = Underlay {
            addresses: by_family(&["192.168.1.2"]),
            ..underlay()
        };
        let behind_nat = Underlay {
            public: by_family(&["203.0.113.7"]),
            ..underlay()
        };
        let small = VxlanConf {
            mtu: Some(1300),
            ..conf()
        };
        let small = Backend::Vxlan(small);
        assert!(overlay(Family::V4, &small, &underlay()).is_ok());
        for (backend, family, underlay, error) in [
            (
                &Backend::Alloc,
                Family::V6,
                ipv4_only,
                "interface eth0 has no IPv6 address, which the IPv6 overlay needs",
            ),
            (
                &small,
                Family::V6,
                underlay(),
                "an MTU of 1300 leaves 1230 bytes for packets in VXLAN over IPv6, which needs 1280",
            ),
            (
                &Backend::HostGw,
                Family::V4,
                behind_nat,
                "your PublicIP differs from interface IP, meaning that probably you're on a NAT, which is not \
                 supported by host-gw backend (eth0 has 192.168.1.2, the public address is 203.0.113.7)",
            ),
        ] {
            let found = overlay(family, backend, &underlay).unwrap_err().to_string();
            assert!(found.starts_with(error), "{found}");
        }
    }
}
