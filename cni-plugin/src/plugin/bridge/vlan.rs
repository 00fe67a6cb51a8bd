//! VLANs of the container's port, and the gateway's interface in the container's VLAN.

use std::net::IpAddr;

use kernel::route::{Handle, IfIndex, Link, PortVlans, VethPeer};

use super::{Addition, existing, host_veth_name, refused, use_link_local_at_once};
use crate::{
    model::{AddResult, Error, Vlans},
    plan::{self, host_veth::Identity},
};

// === impl Addition ===

impl Addition<'_> {
    /// Makes the port a member of its VLANs. Answers with the interface that has the gateway's addresses,
    /// if that is not the bridge itself.
    pub(super) fn join_vlans(
        &self,
        host: &mut Handle,
        bridge: IfIndex,
        result: &AddResult,
    ) -> Result<Option<Link>, Error> {
        if self.vlans.is_empty() {
            return Ok(None);
        }
        let port = existing(host.link_by_name(&self.port)?, &self.port)?;
        join(host, &self.vlans, port.index)?;
        let gateways = self.gateways(result)?;
        let Some(first) = gateways.first().filter(|_| self.vlans.access.is_some()) else {
            return Ok(None);
        };
        let gateway = self.ensure_gateway(host, bridge, first.ip())?;
        use_link_local_at_once(&gateway, &gateways)?;
        let observed = host.addresses(Some(gateway.index))?;
        // Nothing tells whether containers are left of an older subnet, as the ports of a bridge do.
        let may_go = |_| self.conf.force_address;
        let changes = plan::bridge::complete_bridge(&gateway, &observed, &gateways, may_go);
        host.apply(&changes.map_err(refused)?)?;
        Ok(Some(gateway))
    }

    /// One end of a pair whose other end is a port of the bridge, in the container's VLAN; made if there is
    /// none. Others may make it at the same moment.
    fn ensure_gateway(
        &self,
        host: &mut Handle,
        bridge: IfIndex,
        address: IpAddr,
    ) -> Result<Link, Error> {
        let name = &self.gateway;
        // No attachment has a network without a name, so its port's name is no container's.
        let port = host_veth_name(&Identity {
            network: String::new(),
            container_id: String::new(),
            if_name: name.to_string(),
        })?;
        if host.link_by_name(name)?.is_none() {
            let peer = VethPeer {
                name: name.clone(),
                namespace: None,
                mac: Some(plan::bridge::mac_of(address)),
                mtu: self.conf.mtu(),
            };
            match host.apply(&[plan::bridge::veth(port.clone(), peer, bridge)]) {
                Err(error) if !error.is_exists() => return Err(error.into()),
                _ => {}
            }
        }
        // An earlier ADD may have been killed before the port was in its VLAN.
        if let Some(port) = host.link_by_name(&port)? {
            join(host, &self.vlans.of_gateway(), port.index)?;
        }
        existing(host.link_by_name(name)?, name)
    }
}

/// The VLANs that a port is a member of.
pub fn of_port(host: &mut Handle, port: IfIndex) -> Result<Vec<PortVlans>, Error> {
    let all = host.port_vlans()?.into_iter();
    Ok(all
        .filter_map(|(it, vlans)| (it == port).then_some(vlans))
        .collect())
}

fn join(host: &mut Handle, vlans: &Vlans, port: IfIndex) -> Result<(), Error> {
    let changes = plan::port_vlans::changes(vlans, port, &host.port_vlans()?);
    Ok(host.apply_port_vlans(&changes)?)
}
