//! The device that packets to other nodes leave by (spec 1.7).

use ipnetwork::IpNetwork;
use kernel::{
    IfName, Mac,
    route::{Change, Link, LinkKind, LinkSettings, NewLink, NewLinkKind, Vxlan},
};

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

// === impl Device ===

impl Device {
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

#[cfg(test)]
mod tests {
    use kernel::route::IfIndex;

    use super::*;

    fn device() -> Device {
        Device {
            name: "flannel.1".parse().unwrap(),
            vxlan: Vxlan {
                vni: 1.try_into().unwrap(),
                parent: Some(IfIndex(2)),
                local: Some("192.168.1.2".parse().unwrap()),
                port: 8472,
                learning: false,
                gbp: false,
            },
            mac: Mac([2, 0, 0, 0, 0, 1]),
            mtu: 1450,
        }
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
        assert_eq!(device().with_mac_of(Some(&standing)).mac, mac);
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
}
