//! Telling what stands in the kernel now, against what should. Nothing is changed for it.

use std::{collections::BTreeMap, net::IpAddr};

use ipnetwork::IpNetwork;
use kernel::Family;

use super::{Error, Reconciler};
use crate::{
    model::{Held, Snapshot},
    plan::{self, Device, Overlay, Peers, Place, Way},
    report::{PeerStatus, Status, StatusRequest},
};

/// By the subnets of peers, what is missing for them.
type Missing = BTreeMap<IpNetwork, Vec<String>>;

// === impl Reconciler ===

impl Reconciler {
    /// Without a lease or the others' there is no answer.
    pub(super) fn answer(
        &mut self,
        question: StatusRequest,
        held: Option<Held>,
        snapshot: Option<Snapshot>,
    ) {
        let (Some(held), Some(snapshot)) = (held, snapshot) else {
            return;
        };
        match self.status(&held, &snapshot) {
            // Who has gone away does not want it any more.
            Ok(status) => drop(question.send(status)),
            Err(error) => tracing::warn!("can't tell the status: {error}"),
        }
    }

    fn status(&mut self, held: &Held, snapshot: &Snapshot) -> Result<Status, Error> {
        let own = self.site.own();
        let mut status = Status {
            subnets: held.key.subnets().iter().map(|(_, it)| *it).collect(),
            addresses: own.public.iter().map(|(_, it)| *it).collect(),
            mtu: self.subnet_env(held).mtu,
            failures: self.failures.current(),
            peers: Vec::new(),
        };
        let overlays = self.site.overlays().clone();
        let backend = self.site.backend().clone();
        for (family, overlay) in overlays.iter() {
            let peers = plan::peers(family, &backend, &own, &held.key, snapshot);
            let missing = self.missing(family, overlay, held, peers.clone())?;
            let names = snapshot.names(family);
            for (subnet, peer) in &peers.by_subnet {
                status.peers.push(PeerStatus {
                    node: names.get(subnet).cloned().unwrap_or_default(),
                    subnet: *subnet,
                    address: peer.address,
                    probes: probes(*subnet, peer.address, overlay),
                    mac: match peer.way {
                        Way::Vxlan(mac) => Some(mac.to_string()),
                        _ => None,
                    },
                    missing: missing.get(subnet).cloned().unwrap_or_default(),
                    changed: self.peer_changes.since(subnet).as_secs(),
                });
            }
        }
        Ok(status)
    }

    fn missing(
        &mut self,
        family: Family,
        overlay: &Overlay,
        held: &Held,
        mut peers: Peers,
    ) -> Result<Missing, Error> {
        let Some(own) = held.key.subnet(family) else {
            return Ok(Missing::new());
        };
        let device = match &overlay.device {
            None => None,
            Some(device) => match self.kernel.link_by_name(&device.name)? {
                Some(link) => Some(link.index),
                None => {
                    let all = peers.by_subnet.keys();
                    let text = format!("the device {}", device.name);
                    return Ok(all.map(|it| (*it, vec![text.clone()])).collect());
                }
            },
        };
        let place = Place {
            family,
            device,
            underlay: self.site.underlay().interface,
            network: overlay.network,
            whole_network: overlay
                .device
                .as_ref()
                .is_some_and(Device::takes_whole_network),
        };
        if self.site.routes_directly() {
            peers.route_directly(&self.on_link(peers.addresses(), place.underlay)?);
        }
        let want = plan::wanted(&place, own, &peers.by_subnet);
        let diff = plan::diff(&self.standing(&place)?, &want, &place);
        Ok(plan::missing(&peers.by_subnet, &diff))
    }
}

/// A node's device for the overlay has the subnet's own address. Where there is none, its bridge has the first
/// one, once there was a pod; until then only the node itself can be asked.
fn probes(subnet: IpNetwork, node: IpAddr, overlay: &Overlay) -> Vec<IpAddr> {
    match overlay.device {
        Some(_) => vec![subnet.network()],
        None => subnet.iter().nth(1).into_iter().chain([node]).collect(),
    }
}
