//! What the node has for the overlay: its external interface, and the devices that stand on it.

use std::net::IpAddr;

use kernel::{IfName, Mac, route::Handle};

use crate::{
    model::{Attributes, Backend, BackendData, ByFamily, NetConf, Underlay, Vtep},
    plan::{self, Device, InterfaceSearch, NoInterface, NoOverlay, Overlay},
    source,
};

/// The external interface, and what follows from it and the network configuration.
pub struct Site {
    conf: NetConf,
    node: String,
    search: InterfaceSearch,
    underlay: Underlay,
    overlays: ByFamily<Overlay>,
}

/// What the Ethernet addresses of a node's devices come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// What they are computed from.
    pub node: String,
    /// Those that peers have been told before.
    pub macs: ByFamily<Mac>,
}

/// Why it isn't known what should stand on the external interface.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The interface is gone, or has no address.
    #[error(transparent)]
    Interface(#[from] NoInterface),
    /// The configuration and the interface do not go together.
    #[error(transparent)]
    Overlay(#[from] NoOverlay),
    /// The kernel does not tell.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
}

// === impl Site ===

impl Site {
    /// The devices on an interface. One that stands in the kernel and can be kept keeps its Ethernet
    /// address, which peers know.
    pub fn new(
        kernel: &mut Handle,
        search: InterfaceSearch,
        conf: &NetConf,
        underlay: Underlay,
        identity: Identity,
    ) -> Result<Self, Unusable> {
        let Identity { node, macs } = identity;
        let mut overlays = overlays(conf, &underlay, &node)?;
        for (family, mac) in macs.iter() {
            let device = overlays.get_mut(family).and_then(|it| it.device.as_mut());
            if let Some(device) = device {
                device.mac = *mac;
            }
        }
        for device in devices(&mut overlays) {
            let standing = kernel.link_by_name(&device.name)?;
            *device = device.clone().with_mac_of(standing.as_ref());
        }
        Ok(Self {
            conf: conf.clone(),
            node,
            search,
            underlay,
            overlays,
        })
    }

    /// The external interface.
    pub const fn underlay(&self) -> &Underlay {
        &self.underlay
    }

    /// The overlay of each enabled family.
    pub const fn overlays(&self) -> &ByFamily<Overlay> {
        &self.overlays
    }

    /// What Ethernet addresses are computed from.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Whether nodes on the interface's link are reached without a tunnel.
    pub const fn routes_directly(&self) -> bool {
        self.conf.backend.routes_directly()
    }

    /// What the node says in its lease.
    pub fn own(&self) -> Attributes {
        let public = |family| Some((family, *self.underlay.public.get(family)?));
        Attributes {
            public: self
                .overlays
                .iter()
                .filter_map(|(family, _)| public(family))
                .collect(),
            backend: match &self.conf.backend {
                Backend::Vxlan(_) => BackendData::Vxlan(self.vteps()),
                Backend::HostGw => BackendData::HostGw,
                Backend::Alloc => BackendData::Other(String::new()),
            },
        }
    }

    fn vteps(&self) -> ByFamily<Vtep> {
        let vtep = |overlay: &Overlay| {
            let device = overlay.device.as_ref()?;
            Some(Vtep {
                vni: device.vxlan.vni,
                mac: device.mac,
            })
        };
        let overlays = self.overlays.iter();
        overlays
            .filter_map(|(family, overlay)| Some((family, vtep(overlay)?)))
            .collect()
    }

    /// Goes on with what has become of the interface; answers whether that is something else than
    /// before. Ethernet addresses stay as they are.
    ///
    /// # Errors
    /// All stays as it was.
    pub fn follow(&mut self, kernel: &mut Handle) -> Result<bool, Unusable> {
        let name = &self.underlay.name;
        let host = source::read_interface(kernel, name)?;
        let families: Vec<_> = self.overlays.iter().map(|(family, _)| family).collect();
        let underlay = plan::follow_interface(&host, name, &self.search, &families)?;
        if underlay == self.underlay {
            return Ok(false);
        }
        let mut overlays = overlays(&self.conf, &underlay, &self.node)?;
        for device in devices(&mut overlays) {
            device.mac = self.mac_of(&device.name).unwrap_or(device.mac);
        }
        self.overlays = overlays;
        self.underlay = underlay;
        self.log();
        Ok(true)
    }

    fn mac_of(&self, device: &IfName) -> Option<Mac> {
        let mut devices = self
            .overlays
            .iter()
            .filter_map(|(_, it)| it.device.as_ref());
        let same = devices.find(|it| it.name == *device)?;
        Some(same.mac)
    }

    /// Says which interface it is.
    pub fn log(&self) {
        let text =
            |address: Option<&IpAddr>| address.map_or_else(|| "none".into(), IpAddr::to_string);
        let Underlay {
            name,
            mtu,
            addresses,
            public,
            ..
        } = &self.underlay;
        for (family, _) in self.overlays.iter() {
            let (address, public) = (text(addresses.get(family)), text(public.get(family)));
            tracing::info!(
                "{family} between nodes: interface {name}, address {address}, public address {public}, MTU {mtu}"
            );
        }
    }
}

/// The overlay of every enabled family, with Ethernet addresses as they are computed.
fn overlays(
    conf: &NetConf,
    underlay: &Underlay,
    node: &str,
) -> Result<ByFamily<Overlay>, NoOverlay> {
    let mut overlays = ByFamily::default();
    for (family, pool) in conf.pools.iter() {
        let overlay = Overlay::new(family, pool.network(), &conf.backend, underlay, node)?;
        overlays.insert(family, overlay);
    }
    Ok(overlays)
}

fn devices(overlays: &mut ByFamily<Overlay>) -> impl Iterator<Item = &mut Device> {
    overlays.values_mut().filter_map(|it| it.device.as_mut())
}
