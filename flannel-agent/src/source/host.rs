//! The node's network configuration.

use kernel::{Family, Result, route::Handle};

use crate::model::Host;

/// Reads interfaces, addresses and routes.
pub fn read_host(kernel: &mut Handle) -> Result<Host> {
    let mut routes = Vec::new();
    for family in Family::ALL {
        routes.append(&mut kernel.routes(family)?);
    }
    Ok(Host {
        links: kernel.links()?,
        addresses: kernel.addresses(None)?,
        routes,
    })
}
