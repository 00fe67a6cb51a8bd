//! CHECK: reads what stands on the host and in the container, and compares.

use kernel::{
    Family,
    netns::Namespace,
    route::{Handle, Link, LinkDetails},
};

use super::{ipam, masquerade, refused, spoof_check, vlan};
use crate::{
    model::{AddResult, Attachment, BridgeConf, Code, Error, NetConf},
    plan::{
        self,
        attachment_check::{Expected, InContainer, Mismatch, OnHost},
        host_veth::Identity,
    },
    source::Environment,
};

/// Names the first thing that is not as the ADD made it: on the host, in the container, or with the
/// reservations of its addresses.
pub fn check(
    environment: &Environment,
    attachment: &Attachment,
    conf: &NetConf,
) -> Result<(), Error> {
    let bridge = BridgeConf::for_add(conf)?;
    let result = conf.required_prev_result()?;
    if let Some(plugin) = ipam(environment, &bridge)? {
        plugin.check(environment, attachment, conf)?;
    }
    let name = bridge.bridge()?;
    let gateway = bridge.gateway_interface()?;
    let expected = Expected {
        gateways: gateways(&bridge, &result)?,
        result: &result,
        attachment,
        bridge: name.as_str(),
        gateway: gateway.as_str(),
        vlans: bridge.vlans()?,
        mac: bridge.mac(attachment)?,
        mtu: bridge.mtu(),
        hairpin: bridge.hairpin_mode,
        promiscuous: bridge.promisc_mode,
        isolated: bridge.port_isolation,
        up: !bridge.disable_container_interface,
    };
    // Before anything is read: a result of another container is told by itself.
    expected.container().map_err(failed)?;
    let host = on_host(&expected)?;
    expected.compare_host(&host).map_err(failed)?;
    let inside = in_container(attachment)?;
    let port = host.port.as_ref().map(|(link, _)| link);
    expected.compare_container(&inside, port).map_err(failed)?;
    let identity = Identity::of(attachment, conf.name());
    if let Some((link, port)) = inside
        .link
        .as_ref()
        .zip(port)
        .filter(|_| bridge.mac_spoof_chk)
    {
        spoof_check::check(&identity, port, link.mac)?;
    }
    if bridge.ip_masq {
        masquerade::check(&bridge, &identity, &result)?;
    }
    Ok(())
}

/// The gateway's addresses in the subnets of the container's, if the bridge has to have them.
fn gateways(bridge: &BridgeConf, result: &AddResult) -> Result<Vec<ipnetwork::IpNetwork>, Error> {
    if bridge.is_gateway || bridge.is_default_gateway {
        plan::bridge::gateways(result).map_err(refused)
    } else {
        Ok(Vec::new())
    }
}

fn on_host(expected: &Expected<'_>) -> Result<OnHost, Error> {
    let mut handle = Handle::open()?;
    let bridge = with_details(&mut handle, expected.bridge)?;
    let port = with_details(&mut handle, &expected.port().map_err(failed)?.name)?;
    let gateway = with_details(&mut handle, expected.gateway)?;
    let addresses = match &gateway {
        Some((link, _)) => handle.addresses(Some(link.index))?,
        None => Vec::new(),
    };
    let vlans = match &port {
        Some((link, _)) if !expected.vlans.is_empty() => vlan::of_port(&mut handle, link.index)?,
        _ => Vec::new(),
    };
    Ok(OnHost {
        vlans,
        bridge,
        addresses,
        port,
    })
}

fn in_container(attachment: &Attachment) -> Result<InContainer, Error> {
    let attempted = format!("failed to open netns {:?}", attachment.netns);
    let namespace = Namespace::open(&attachment.netns)
        .and_then(|namespace| Handle::open_in(&namespace))
        .map_err(|error| Error::from(error).during(&attempted));
    let mut handle = namespace?;
    let mut routes = handle.next_hops(Family::V4)?;
    routes.extend(handle.next_hops(Family::V6)?);
    Ok(InContainer {
        link: handle.link_by_name(&attachment.if_name)?,
        addresses: handle.addresses(None)?,
        routes,
    })
}

fn with_details(handle: &mut Handle, name: &str) -> Result<Option<(Link, LinkDetails)>, Error> {
    let name = name
        .parse()
        .map_err(|error| Error::config(format!("prevResult: interfaces: {error}")))?;
    let Some(link) = handle.link_by_name(&name)? else {
        return Ok(None);
    };
    let details = handle.link_details(link.index)?;
    Ok(details.map(|details| (link, details)))
}

fn failed(mismatch: Mismatch) -> Error {
    match mismatch {
        Mismatch::Result(_) => Error::config(mismatch),
        Mismatch::Interface { .. } => Error::new(Code::Internal, mismatch.to_string())
            .with_details("it is not as the ADD made it: DEL the attachment and ADD it again"),
    }
}
