//! The VXLAN device of a family (spec 1.7).

use ipnetwork::IpNetwork;
use kernel::{
    Family, IfName, InvalidIfName, Mac,
    route::{Change, Link, LinkKind, LinkSettings, NewLink, NewLinkKind, Vxlan},
};

use crate::model::{Underlay, VxlanConf};

/// A device as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: IfName,
    /// What can't be changed while it exists.
    pub vxlan: Vxlan,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its MTU in bytes.
    pub mtu: u32,
}

/// Why there can be no device for a family.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoDevice {
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
        "an MTU of {underlay} leaves {left} bytes for packets in VXLAN over {family}, which needs {least}; \
         raise the interface's MTU or Backend.MTU"
    )]
    MtuTooSmall {
        /// MTU of the underlay.
        underlay: u32,
        /// What is left of it.
        left: u32,
        /// The family.
        family: Family,
        /// The least MTU that the family works with.
        least: u32,
    },
    /// The configuration makes a name that can't be.
    #[error(transparent)]
    Name(#[from] InvalidIfName),
}

// === impl Device ===

impl Device {
    /// The device of a family on an underlay. Its `local` address is the interface's own and not the
    /// public one: with an address that the node does not have, the kernel sends nothing.
    pub fn new(
        family: Family,
        conf: &VxlanConf,
        underlay: &Underlay,
        mac: Mac,
    ) -> Result<Self, NoDevice> {
        let local = underlay.addresses.get(family).copied();
        let local = local.ok_or_else(|| NoDevice::NoAddress {
            interface: underlay.name.clone(),
            family,
        })?;
        Ok(Self {
            name: conf.device_name(family)?,
            vxlan: Vxlan {
                vni: conf.vni,
                parent: Some(underlay.interface),
                local: Some(local),
                port: conf.port,
                learning: conf.learning,
                gbp: conf.gbp,
            },
            mac,
            mtu: mtu(family, conf.mtu.unwrap_or(underlay.mtu))?,
        })
    }

    /// The same, with the Ethernet address of the interface that it will go on with, if there is one.
    pub fn with_mac_of(self, standing: Option<&Link>) -> Self {
        let mac = standing
            .filter(|link| self.is_compatible(link))
            .and_then(|link| link.mac)
            .filter(|mac| mac.is_valid_for_device());
        Self {
            mac: mac.unwrap_or(self.mac),
            ..self
        }
    }

    /// Whether an interface can go on as this device, perhaps with other settings.
    pub fn is_compatible(&self, link: &Link) -> bool {
        link.kind == LinkKind::Vxlan(self.vxlan.clone())
    }

    /// The address that the device has for a subnet: the subnet's own, alone.
    pub fn address(subnet: IpNetwork) -> IpNetwork {
        subnet.network().into()
    }
}

/// What makes the device as it should be. A compatible one is kept, with all that stands on it.
pub fn link_changes(have: Option<&Link>, want: &Device) -> Vec<Change> {
    let add = || {
        Change::AddLink(NewLink {
            name: want.name.clone(),
            kind: NewLinkKind::Vxlan(want.vxlan.clone()),
            mac: Some(want.mac),
            mtu: Some(want.mtu),
            up: true,
            master: None,
        })
    };
    let Some(link) = have else {
        return vec![add()];
    };
    if !want.is_compatible(link) {
        return vec![Change::DeleteLink(link.index), add()];
    }
    let settings = LinkSettings {
        up: (!link.up).then_some(true),
        mtu: (link.mtu != want.mtu).then_some(want.mtu),
        mac: (link.mac != Some(want.mac)).then_some(want.mac),
        ..LinkSettings::default()
    };
    if settings == LinkSettings::default() {
        return Vec::new();
    }
    vec![Change::SetLink(link.index, settings)]
}

/// What VXLAN leaves of the underlay's MTU: outer IP header, UDP 8, VXLAN 8 and inner Ethernet 14 bytes
/// are taken off (RFC 7348, section 5). flannel takes 50 off for IPv6 as well, which is 20 too few.
fn mtu(family: Family, underlay: u32) -> Result<u32, NoDevice> {
    let (overhead, least) = match family {
        Family::V4 => (50, 68),
        Family::V6 => (70, 1280),
    };
    let left = underlay.saturating_sub(overhead);
    if left < least {
        return Err(NoDevice::MtuTooSmall {
            underlay,
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

    fn conf() -> VxlanConf {
        VxlanConf {
            vni: 1.try_into().unwrap(),
            port: 8472,
            mtu: None,
            gbp: false,
            learning: false,
        }
    }

    fn underlay() -> Underlay {
        Underlay {
            name: "eth0".parse().unwrap(),
            interface: IfIndex(2),
            mtu: 1500,
            addresses: [
                (Family::V4, "192.168.1.2".parse().unwrap()),
                (Family::V6, "fd00::2".parse().unwrap()),
            ]
            .into_iter()
            .collect(),
            public: [(Family::V4, "203.0.113.7".parse().unwrap())]
                .into_iter()
                .collect(),
        }
    }

    fn device(family: Family) -> Device {
        Device::new(family, &conf(), &underlay(), Mac([2, 0, 0, 0, 0, 1])).unwrap()
    }

    fn link(device: &Device) -> Link {
        Link {
            index: IfIndex(7),
            name: device.name.clone(),
            mac: Some(device.mac),
            mtu: device.mtu,
            up: true,
            carrier: true,
            loopback: false,
            master: None,
            parent: device.vxlan.parent,
            kind: LinkKind::Vxlan(device.vxlan.clone()),
            hairpin: None,
        }
    }

    fn texts(changes: &[Change]) -> Vec<String> {
        changes.iter().map(Change::to_string).collect()
    }

    #[test]
    fn is_made_as_flannel_makes_it() {
        assert_eq!(
            texts(&link_changes(None, &device(Family::V4))),
            [
                "ip link add flannel.1 address 02:00:00:00:00:01 mtu 1450 type vxlan id 1 dstport 8472 dev if2 local 192.168.1.2 nolearning"
            ]
        );
        assert_eq!(
            texts(&link_changes(None, &device(Family::V6))),
            [
                "ip link add flannel-v6.1 address 02:00:00:00:00:01 mtu 1430 type vxlan id 1 dstport 8472 dev if2 local fd00::2 nolearning"
            ]
        );
    }

    #[test]
    fn is_kept_if_compatible() {
        let device = device(Family::V4);
        assert_eq!(link_changes(Some(&link(&device)), &device), []);
        let changed = Link {
            mtu: 1400,
            up: false,
            mac: None,
            ..link(&device)
        };
        assert_eq!(
            texts(&link_changes(Some(&changed), &device)),
            ["ip link set if7 address 02:00:00:00:00:01 mtu 1450 up"]
        );
    }

    #[test]
    fn a_compatible_one_keeps_its_mac() {
        let mac = Mac([0x0e, 0, 0, 0, 0, 9]);
        let standing = Link {
            mac: Some(mac),
            ..link(&device(Family::V4))
        };
        assert_eq!(device(Family::V4).with_mac_of(Some(&standing)).mac, mac);
        let other = Link {
            kind: LinkKind::Bridge,
            ..standing
        };
        assert_eq!(
            device(Family::V4).with_mac_of(Some(&other)),
            device(Family::V4)
        );
        assert_eq!(device(Family::V4).with_mac_of(None), device(Family::V4));
    }

    #[test]
    fn is_made_again_if_not_compatible() {
        let device = device(Family::V4);
        let kinds = [
            LinkKind::Bridge,
            LinkKind::Vxlan(Vxlan {
                port: 4789,
                ..device.vxlan.clone()
            }),
            LinkKind::Vxlan(Vxlan {
                parent: Some(IfIndex(9)),
                ..device.vxlan.clone()
            }),
            LinkKind::Vxlan(Vxlan {
                local: Some("203.0.113.7".parse().unwrap()),
                ..device.vxlan.clone()
            }),
        ];
        for kind in kinds {
            let changes = link_changes(
                Some(&Link {
                    kind,
                    ..link(&device)
                }),
                &device,
            );
            assert_eq!(changes[0], Change::DeleteLink(IfIndex(7)));
            assert!(matches!(changes[1..], [Change::AddLink(_)]));
        }
    }

    #[test]
    fn errors_say_what_is_missing() {
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        let ipv4_only = Underlay {
            addresses: [(Family::V4, "192.168.1.2".parse().unwrap())]
                .into_iter()
                .collect(),
            ..underlay()
        };
        let error = Device::new(Family::V6, &conf(), &ipv4_only, mac).unwrap_err();
        assert_eq!(
            error.to_string(),
            "interface eth0 has no IPv6 address, which the IPv6 overlay needs"
        );
        let small = VxlanConf {
            mtu: Some(1300),
            ..conf()
        };
        assert!(Device::new(Family::V4, &small, &underlay(), mac).is_ok());
        let error = Device::new(Family::V6, &small, &underlay(), mac).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("an MTU of 1300 leaves 1230 bytes"),
            "{error}"
        );
    }
}
