//! What the node has for the overlay: its external interface, and the devices that stand on it.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use kernel::route::Handle;

use crate::{
    model::{Attributes, Backend, BackendData, ByFamily, NetConf, Underlay, Vtep, VxlanConf},
    plan::{self, Device, InterfaceSearch, NoDevice, NoInterface},
    source,
};

/// The overlay of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// Its device.
    pub device: Device,
    /// The network that all nodes share.
    pub network: IpNetwork,
}

/// The external interface, and what follows from it and the network configuration.
pub struct Site {
    vxlan: VxlanConf,
    node: String,
    search: InterfaceSearch,
    underlay: Underlay,
    overlays: ByFamily<Overlay>,
}

/// Why it isn't known what should stand on the external interface.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The interface is gone, or has no address.
    #[error(transparent)]
    Interface(#[from] NoInterface),
    /// The configuration and the interface do not go together.
    #[error(transparent)]
    Device(#[from] NoDevice),
    /// The kernel does not tell.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
}

// === impl Site ===

impl Site {
    /// The devices on an interface. One that stands in the kernel and can be kept keeps its Ethernet
    /// address, which peers know; `node` is what the others are computed from.
    pub fn new(
        kernel: &mut Handle,
        search: InterfaceSearch,
        conf: &NetConf,
        underlay: Underlay,
        node: String,
    ) -> Result<Self, Unusable> {
        let Backend::Vxlan(vxlan) = &conf.backend;
        let mut overlays = ByFamily::default();
        for (family, pool) in conf.pools.iter() {
            let mac = plan::vtep_mac(&node, family, vxlan.vni);
            let device = Device::new(family, vxlan, &underlay, mac)?;
            let standing = kernel.link_by_name(&device.name)?;
            let overlay = Overlay {
                device: device.with_mac_of(standing.as_ref()),
                network: pool.network(),
            };
            overlays.insert(family, overlay);
        }
        Ok(Self {
            vxlan: vxlan.clone(),
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

    /// What the node says in its lease.
    pub fn own(&self) -> Attributes {
        let vtep = |overlay: &Overlay| Vtep {
            vni: overlay.device.vxlan.vni,
            mac: overlay.device.mac,
        };
        let public = |family| Some((family, *self.underlay.public.get(family)?));
        let overlays = || self.overlays.iter();
        Attributes {
            public: overlays()
                .filter_map(|(family, _)| public(family))
                .collect(),
            backend: BackendData::Vxlan(
                overlays().map(|(family, it)| (family, vtep(it))).collect(),
            ),
        }
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
        let mut overlays = ByFamily::default();
        for (family, overlay) in self.overlays.iter() {
            let device = Device::new(family, &self.vxlan, &underlay, overlay.device.mac)?;
            overlays.insert(
                family,
                Overlay {
                    device,
                    ..overlay.clone()
                },
            );
        }
        self.overlays = overlays;
        self.underlay = underlay;
        self.log();
        Ok(true)
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
