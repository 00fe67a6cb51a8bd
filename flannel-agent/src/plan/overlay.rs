//! What a node has for the subnets of one family: a device or none, and what is left of the MTU.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use kernel::{Family, IfName, InvalidIfName, route::Vxlan};

use super::{Device, vtep_mac};
use crate::model::{Backend, Underlay, VxlanConf};

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
        let local = local_address(family, underlay)?;
        let device = match backend {
            Backend::Vxlan(conf) => Some(vxlan(family, conf, underlay, local, node)?),
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
        vxlan: Vxlan {
            vni: conf.vni,
            parent: Some(underlay.interface),
            local: Some(local),
            port: conf.port,
            learning: conf.learning,
            gbp: conf.gbp,
        },
        mac: vtep_mac(node, family, conf.vni),
        mtu: mtu(family, "VXLAN", conf.mtu.unwrap_or(underlay.mtu), overhead)?,
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
            assert_eq!(device.vxlan.local, Some(local.parse().unwrap()));
            assert_eq!(device.mac, vtep_mac("node", family, conf().vni));
            assert_eq!((device.mtu, overlay.mtu), (mtu, mtu));
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
        assert_eq!((device.vxlan.port, device.mtu), (4789, 1350));
        assert!(device.vxlan.gbp && device.vxlan.learning);
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
