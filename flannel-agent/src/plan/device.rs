//! The device that packets to other nodes leave by (spec 1.7).

use ipnetwork::IpNetwork;
use std::net::Ipv4Addr;

use kernel::{
    IfName, Mac,
    route::{Change, Ipip, Link, LinkKind, LinkSettings, NewLink, NewLinkKind, Vxlan},
};

/// A device as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: IfName,
    /// What can't be changed while it exists.
    pub kind: DeviceKind,
    /// Its Ethernet address, if it is a device that has one.
    pub mac: Option<Mac>,
    /// Its MTU in bytes.
    pub mtu: u32,
}

/// What a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// A VXLAN tunnel endpoint.
    Vxlan(Vxlan),
    /// The end of all IPv4 in IPv4 tunnels that have this address at this side.
    Ipip(Ipv4Addr),
    /// A WireGuard tunnel.
    Wireguard,
}

// === impl Device ===

impl Device {
    /// The same, with the Ethernet address of the interface that it will go on with, if there is one.
    pub fn with_mac_of(self, standing: Option<&Link>) -> Self {
        let mac = standing
            .filter(|link| self.is_compatible(link))
            .and_then(|link| link.mac)
            .filter(|mac| mac.is_valid_for_device());
        Self {
            mac: self.mac.map(|own| mac.unwrap_or(own)),
            ..self
        }
    }

    /// Whether an interface can go on as this device, perhaps with other settings.
    pub fn is_compatible(&self, link: &Link) -> bool {
        match (&self.kind, &link.kind) {
            (DeviceKind::Vxlan(want), LinkKind::Vxlan(have)) => want == have,
            (DeviceKind::Ipip(local), LinkKind::Ipip(have)) => {
                have.local == Some(*local) && have.remote.is_none()
            }
            (DeviceKind::Wireguard, LinkKind::Wireguard) => true,
            _ => false,
        }
    }

    /// Whether one route for the whole network leads to it, and it finds the node by itself.
    pub const fn takes_whole_network(&self) -> bool {
        matches!(self.kind, DeviceKind::Wireguard)
    }

    /// The address that the device has for a subnet: the subnet's own, alone.
    pub fn address(subnet: IpNetwork) -> IpNetwork {
        subnet.network().into()
    }
}

// === impl DeviceKind ===

impl DeviceKind {
    /// The kernel's name of it, which is that of its module as well.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Vxlan(_) => "vxlan",
            Self::Ipip(_) => "ipip",
            Self::Wireguard => "wireguard",
        }
    }

    fn to_new(&self) -> NewLinkKind {
        match self {
            Self::Vxlan(vxlan) => NewLinkKind::Vxlan(vxlan.clone()),
            Self::Ipip(local) => NewLinkKind::Ipip(Ipip {
                local: Some(*local),
                remote: None,
                parent: None,
                path_mtu_discovery: true,
            }),
            Self::Wireguard => NewLinkKind::Wireguard,
        }
    }
}

/// What makes the device as it should be. A compatible one is kept, with all that stands on it.
pub fn link_changes(have: Option<&Link>, want: &Device) -> Vec<Change> {
    let add = || {
        Change::AddLink(NewLink {
            name: want.name.clone(),
            kind: want.kind.to_new(),
            mac: want.mac,
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
        mac: want.mac.filter(|mac| link.mac != Some(*mac)),
        ..LinkSettings::default()
    };
    if settings == LinkSettings::default() {
        return Vec::new();
    }
    vec![Change::SetLink(link.index, settings)]
}

#[cfg(test)]
mod tests {
    use kernel::route::IfIndex;

    use super::*;
    use crate::plan::sample;

    fn vxlan() -> Vxlan {
        Vxlan {
            vni: 1.try_into().unwrap(),
            parent: Some(IfIndex(2)),
            local: Some("192.168.1.2".parse().unwrap()),
            port: 8472,
            learning: false,
            gbp: false,
        }
    }

    fn device() -> Device {
        Device {
            name: "flannel.1".parse().unwrap(),
            kind: DeviceKind::Vxlan(vxlan()),
            mac: Some(Mac([2, 0, 0, 0, 0, 1])),
            mtu: 1450,
        }
    }

    fn link(device: &Device) -> Link {
        Link {
            mac: device.mac,
            mtu: device.mtu,
            parent: Some(IfIndex(2)),
            ..sample::link(7, device.name.as_str(), LinkKind::Vxlan(vxlan()))
        }
    }

    fn texts(changes: &[Change]) -> Vec<String> {
        changes.iter().map(Change::to_string).collect()
    }

    #[test]
    fn is_made_as_flannel_makes_it() {
        assert_eq!(
            texts(&link_changes(None, &device())),
            [
                "ip link add flannel.1 address 02:00:00:00:00:01 mtu 1450 type vxlan id 1 dstport 8472 dev if2 local 192.168.1.2 nolearning"
            ]
        );
    }

    #[test]
    fn is_kept_if_compatible() {
        let device = device();
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
            ..link(&device())
        };
        assert_eq!(device().with_mac_of(Some(&standing)).mac, Some(mac));
        let other = Link {
            kind: LinkKind::Bridge,
            ..standing
        };
        assert_eq!(device().with_mac_of(Some(&other)), device());
        assert_eq!(device().with_mac_of(None), device());
    }

    #[test]
    fn is_made_again_if_not_compatible() {
        let device = device();
        let kinds = [
            LinkKind::Bridge,
            LinkKind::Vxlan(Vxlan {
                port: 4789,
                ..vxlan()
            }),
            LinkKind::Vxlan(Vxlan {
                parent: Some(IfIndex(9)),
                ..vxlan()
            }),
            LinkKind::Vxlan(Vxlan {
                local: Some("203.0.113.7".parse().unwrap()),
                ..vxlan()
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
    fn an_ipip_device_is_known_by_its_own_end() {
        let local = Ipv4Addr::new(192, 168, 1, 2);
        let device = Device {
            name: "flannel.ipip".parse().unwrap(),
            kind: DeviceKind::Ipip(local),
            mac: None,
            mtu: 1480,
        };
        assert_eq!(
            texts(&link_changes(None, &device)),
            ["ip link add flannel.ipip mtu 1480 type ipip local 192.168.1.2"]
        );
        let ipip = |local, remote| Link {
            kind: LinkKind::Ipip(Ipip {
                local: Some(local),
                remote,
                parent: None,
                path_mtu_discovery: false,
            }),
            ..link(&device)
        };
        assert_eq!(link_changes(Some(&ipip(local, None)), &device), []);
        for other in [
            ipip(Ipv4Addr::new(192, 168, 1, 3), None),
            ipip(local, Some(Ipv4Addr::new(192, 168, 1, 3))),
        ] {
            assert_eq!(link_changes(Some(&other), &device).len(), 2);
        }
    }

    #[test]
    fn a_wireguard_device_is_any_of_its_name() {
        let device = Device {
            name: "flannel-wg".parse().unwrap(),
            kind: DeviceKind::Wireguard,
            mac: None,
            mtu: 1420,
        };
        let made = ["ip link add flannel-wg mtu 1420 type wireguard"];
        assert_eq!(texts(&link_changes(None, &device)), made);
        let standing = Link {
            kind: LinkKind::Wireguard,
            ..link(&device)
        };
        assert_eq!(link_changes(Some(&standing), &device), []);
        assert_eq!(device.clone().with_mac_of(Some(&standing)), device);
    }
}
