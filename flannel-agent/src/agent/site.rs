//! What the node has for the overlay: its external interface, and the devices that stand on it.

use std::net::IpAddr;

use kernel::{
    Family, IfName, Mac,
    route::{Handle, IfIndex},
};
use nix::errno::Errno;

use super::Wireguard;
use crate::{
    model::{
        Attributes, Backend, BackendData, ByFamily, NetConf, Underlay, Vtep, WireguardConf,
        WireguardEndpoint,
    },
    plan::{self, Device, DeviceKind, InterfaceSearch, NoInterface, NoOverlay, Overlay, Tunnels},
    source::{self, NoKey},
};

/// The external interface, and what follows from it and the network configuration.
pub struct Site {
    conf: NetConf,
    node: String,
    search: InterfaceSearch,
    underlay: Underlay,
    overlays: ByFamily<Overlay>,
    wireguard: Option<Wireguard>,
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
    /// The kernel knows no such devices.
    #[error(
        "this kernel has no {kind} devices, which Backend.Type in the network configuration asks for: \
        load its module {kind}, or take another backend ({cause})"
    )]
    NoSuchDevice {
        /// The kind of the device, and the name of its module.
        kind: &'static str,
        /// What the kernel says.
        cause: kernel::Error,
    },
    /// There is no key for WireGuard.
    #[error(transparent)]
    Key(#[from] NoKey),
    /// The kernel does not tell.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
}

// === impl Site ===

impl Site {
    /// The devices on an interface. One that stands in the kernel and can be kept keeps its Ethernet
    /// address, which peers know. Those that are not there are made, so that a kernel without them is known
    /// before anything else is done.
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
                device.mac = device.mac.map(|_| *mac);
            }
        }
        for device in devices(&mut overlays) {
            let standing = kernel.link_by_name(&device.name)?;
            *device = device.clone().with_mac_of(standing.as_ref());
            if standing.is_none() {
                make(kernel, device)?;
            }
        }
        let wireguard = match &conf.backend {
            Backend::Wireguard(_) => {
                let names = devices(&mut overlays).map(|device| device.name.clone());
                Some(Wireguard::open(source::wireguard_key()?, names.collect())?)
            }
            _ => None,
        };
        Ok(Self {
            conf: conf.clone(),
            node,
            search,
            underlay,
            overlays,
            wireguard,
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

    /// How other nodes are reached.
    pub const fn backend(&self) -> &Backend {
        &self.conf.backend
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
                Backend::Wireguard(conf) => BackendData::Wireguard(self.endpoints(conf)),
                Backend::Ipip(_) => BackendData::Ipip,
                Backend::HostGw => BackendData::HostGw,
                Backend::Alloc => BackendData::Other(String::new()),
            },
        }
    }

    fn vteps(&self) -> ByFamily<Vtep> {
        let vtep = |overlay: &Overlay| {
            let device = overlay.device.as_ref()?;
            let DeviceKind::Vxlan(vxlan) = &device.kind else {
                return None;
            };
            Some(Vtep {
                vni: vxlan.vni,
                mac: device.mac?,
            })
        };
        let overlays = self.overlays.iter();
        overlays
            .filter_map(|(family, overlay)| Some((family, vtep(overlay)?)))
            .collect()
    }

    fn endpoints(&self, conf: &WireguardConf) -> ByFamily<WireguardEndpoint> {
        let Some(wireguard) = &self.wireguard else {
            return ByFamily::default();
        };
        let endpoint = |family| WireguardEndpoint {
            public_key: wireguard.public_key(),
            port: conf.port(family),
        };
        let overlays = self.overlays.iter();
        overlays
            .map(|(family, _)| (family, endpoint(family)))
            .collect()
    }

    /// Brings a WireGuard device in line that carries packets of a family; answers whether there was
    /// something to change.
    pub fn reconcile_tunnels(
        &mut self,
        interface: IfIndex,
        family: Family,
        tunnels: &Tunnels,
    ) -> kernel::Result<bool> {
        match (&mut self.wireguard, &self.conf.backend) {
            (Some(wireguard), Backend::Wireguard(conf)) => {
                wireguard.reconcile(interface, family, conf, tunnels)
            }
            _ => Ok(false),
        }
    }

    /// Has nodes of a WireGuard device be as they are `now`, which were as `before`; answers whether there was
    /// something to change.
    pub fn change_tunnels(
        &mut self,
        interface: IfIndex,
        before: &Tunnels,
        now: &Tunnels,
    ) -> kernel::Result<bool> {
        match (&mut self.wireguard, &self.conf.backend) {
            (Some(wireguard), Backend::Wireguard(conf)) => {
                wireguard.change(interface, conf, before, now)
            }
            _ => Ok(false),
        }
    }

    /// Goes on with what has become of the interface and of the configuration; answers whether that is
    /// something else than before. Ethernet addresses stay as they are.
    ///
    /// # Errors
    /// All stays as it was.
    pub fn follow(&mut self, kernel: &mut Handle, conf: &NetConf) -> Result<bool, Unusable> {
        let name = &self.underlay.name;
        let host = source::read_interface(kernel, name)?;
        let families: Vec<_> = self.overlays.iter().map(|(family, _)| family).collect();
        let underlay = plan::follow_interface(&host, name, &self.search, &families)?;
        if underlay == self.underlay && *conf == self.conf {
            return Ok(false);
        }
        let mut overlays = overlays(conf, &underlay, &self.node)?;
        for device in devices(&mut overlays) {
            device.mac = self.mac_of(&device.name).or(device.mac);
        }
        self.overlays = overlays;
        self.underlay = underlay;
        self.conf = conf.clone();
        self.log();
        Ok(true)
    }

    fn mac_of(&self, device: &IfName) -> Option<Mac> {
        let mut devices = self
            .overlays
            .iter()
            .filter_map(|(_, it)| it.device.as_ref());
        devices.find(|it| it.name == *device)?.mac
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

/// Makes a device for the first time. What may pass is left to the reconciler, which tries again.
fn make(kernel: &mut Handle, device: &Device) -> Result<(), Unusable> {
    match kernel.apply(&plan::link_changes(None, device)) {
        Err(cause) if cause.errno() == Some(Errno::EOPNOTSUPP) => Err(Unusable::NoSuchDevice {
            kind: device.kind.name(),
            cause,
        }),
        Err(error) => {
            tracing::warn!("{error}; trying again");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}
