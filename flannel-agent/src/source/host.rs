//! The node's network configuration.

use std::net::IpAddr;

use kernel::{
    Family, IfName, Result,
    route::{Address, Handle, IfIndex},
};

use crate::model::Host;

/// Reads interfaces, routes, and addresses that are for lasting use.
pub fn read_host(kernel: &mut Handle) -> Result<Host> {
    let mut routes = Vec::new();
    for family in Family::ALL {
        routes.append(&mut kernel.routes(family)?);
    }
    Ok(Host {
        routes,
        addresses: lasting_addresses(kernel, None)?,
        links: kernel.links()?,
    })
}

/// Reads one interface and those of its addresses that are for lasting use, if it is there.
pub fn read_interface(kernel: &mut Handle, name: &IfName) -> Result<Host> {
    let Some(link) = kernel.link_by_name(name)? else {
        return Ok(Host::default());
    };
    Ok(Host {
        addresses: lasting_addresses(kernel, Some(link.index))?,
        links: vec![link],
        routes: Vec::new(),
    })
}

/// Reads interfaces and their addresses.
pub fn read_links(kernel: &mut Handle) -> Result<Host> {
    Ok(Host {
        links: kernel.links()?,
        addresses: kernel.addresses(None)?,
        routes: Vec::new(),
    })
}

/// The interface by which packets to an address leave, if any do.
pub fn interface_towards(kernel: &mut Handle, address: IpAddr) -> Result<Option<IfName>> {
    let Some(way) = kernel.lookup(address)? else {
        return Ok(None);
    };
    let link = kernel.link_by_index(way.interface)?;
    Ok(link.map(|link| link.name))
}

/// Addresses that peers can be told: not one that is about to go (spec 1.8) or that another node has.
fn lasting_addresses(kernel: &mut Handle, interface: Option<IfIndex>) -> Result<Vec<Address>> {
    let states = kernel.address_states(interface)?;
    Ok(states
        .into_iter()
        .filter(|it| !(it.temporary || it.deprecated || it.dad_failed))
        .map(|it| it.address)
        .collect())
}
