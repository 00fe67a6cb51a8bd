//! The VLANs of a port of the bridge.

use kernel::route::{Change, IfIndex, LinkSettings, PortVlanChange, PortVlans, VlanMember};

use crate::model::Vlans;

/// Has the ports of a bridge see those VLANs only that they are members of.
pub fn filtering(bridge: IfIndex) -> Change {
    let settings = LinkSettings {
        vlan_filtering: Some(true),
        ..Default::default()
    };
    Change::SetLink(bridge, settings)
}

/// What makes a port the member of its VLANs, and of no others, but for those that it keeps.
pub fn changes(
    vlans: &Vlans,
    port: IfIndex,
    observed: &[(IfIndex, PortVlans)],
) -> Vec<PortVlanChange> {
    let member = VlanMember::Port(port);
    let wanted = vlans.memberships();
    let observed: Vec<_> = observed.iter().filter(|(it, _)| *it == port).collect();
    let leaves = |it: &PortVlans| !vlans.preserve_default && !wanted.contains(it);
    let gone: Vec<_> = observed.iter().map(|(_, it)| *it).filter(leaves).collect();
    let complete = wanted
        .iter()
        .all(|it| observed.iter().any(|(_, seen)| seen == it));
    let left = gone.iter().map(|it| PortVlanChange::Delete(member, *it));
    // A range that goes may overlap one that stays, so that all are joined again.
    let joined = wanted
        .iter()
        .filter(|_| !(complete && gone.is_empty()))
        .map(|it| PortVlanChange::Add(member, *it));
    left.chain(joined).collect()
}

/// The first VLAN that a port should be a member of and is not, or not with the same flags.
pub fn missing(vlans: &Vlans, observed: &[PortVlans]) -> Option<u16> {
    let wanted = vlans.memberships();
    let native = wanted.last().map(|it| it.first);
    let has = |id: u16, is_native: bool| {
        let mut observed = observed.iter();
        observed.any(|it| {
            (it.first..=it.last).contains(&id) && (!is_native || (it.pvid && it.untagged))
        })
    };
    let mut ids = wanted.iter().flat_map(|it| it.first..=it.last);
    ids.find(|id| !has(*id, native == Some(*id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: IfIndex = IfIndex(7);

    fn default_vlan() -> PortVlans {
        PortVlans {
            pvid: true,
            untagged: true,
            ..PortVlans::tagged(1)
        }
    }

    fn texts(vlans: &Vlans, observed: &[PortVlans]) -> Vec<String> {
        let observed: Vec<_> = observed.iter().map(|it| (PORT, *it)).collect();
        let mut observed_of_all = observed.clone();
        observed_of_all.push((IfIndex(8), PortVlans::tagged(9)));
        let changes = changes(vlans, PORT, &observed_of_all);
        changes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_default_goes_unless_it_is_to_stay_and_nothing_is_sent_twice() {
        let mut vlans = Vlans::new(100, &[], false).unwrap();
        assert_eq!(
            texts(&vlans, &[default_vlan()]),
            [
                "bridge vlan delete vid 1 pvid untagged dev if7",
                "bridge vlan add vid 100 pvid untagged dev if7"
            ]
        );
        assert!(texts(&vlans, &vlans.memberships()).is_empty());
        vlans.preserve_default = true;
        assert_eq!(
            texts(&vlans, &[default_vlan()]),
            ["bridge vlan add vid 100 pvid untagged dev if7"]
        );
    }

    #[test]
    fn a_missing_vlan_is_named() {
        let vlans = Vlans::new(100, &[], false).unwrap();
        assert_eq!(missing(&vlans, &[default_vlan()]), Some(100));
        assert_eq!(missing(&vlans, &[PortVlans::tagged(100)]), Some(100));
        assert_eq!(missing(&vlans, &vlans.memberships()), None);
        assert_eq!(missing(&Vlans::default(), &[]), None);
    }
}
