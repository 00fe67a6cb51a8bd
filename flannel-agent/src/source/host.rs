//! The node's network configuration.

use kernel::{Family, IfName, Result, route::Handle};

use crate::model::Host;

/// Reads interfaces, addresses and routes.
pub fn read_host(kernel: &mut Handle) -> Result<Host> {
    let mut routes = Vec::new();
    for family in Family::ALL {
        routes.append(&mut kernel.routes(family)?);
    }
    Ok(Host {
        routes,
        ..read_links(kernel)?
    })
}

/// Reads one interface and its addresses, if it is there.
pub fn read_interface(kernel: &mut Handle, name: &IfName) -> Result<Host> {
    let Some(link) = kernel.link_by_name(name)? else {
        return Ok(Host::default());
    };
    Ok(Host {
        addresses: kernel.addresses(Some(link.index))?,
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
