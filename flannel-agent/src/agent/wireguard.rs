//! What is in the WireGuard devices of this node.

use std::{collections::BTreeMap, net::SocketAddr};

use kernel::{
    Family, IfName,
    route::{self, Change, IfIndex},
    wireguard::{Handle, PublicKey, SecretKey, Settings},
};

use crate::{
    model::WireguardConf,
    plan::{self, Tunnels},
};

/// The node's key and its devices, which are gone with this: nothing but the agent that has the key can
/// use them.
pub struct Wireguard {
    kernel: Handle,
    key: SecretKey,
    public_key: PublicKey,
    devices: Vec<IfName>,
    /// Where the kernel was told that nodes are, for each device.
    told: BTreeMap<IfIndex, BTreeMap<PublicKey, SocketAddr>>,
}

// === impl Wireguard ===

impl Wireguard {
    /// Gives a key to devices, and learns from one of them which public key belongs to it.
    ///
    /// # Errors
    /// If none of the devices is there.
    pub fn open(key: SecretKey, devices: Vec<IfName>) -> kernel::Result<Self> {
        let mut kernel = Handle::open()?;
        let mut links = route::Handle::open()?;
        let settings = Settings {
            private_key: Some(key),
            ..Settings::default()
        };
        let mut public_key = None;
        for name in &devices {
            if let Some(link) = links.link_by_name(name)? {
                kernel.set(link.index, &settings)?;
                public_key = kernel.device(link.index)?.public_key;
            }
        }
        let not_found = || kernel::Error::new("wg show public-key", nix::errno::Errno::ENODEV);
        Ok(Self {
            kernel,
            key,
            public_key: public_key.ok_or_else(not_found)?,
            devices,
            told: BTreeMap::new(),
        })
    }

    /// Whom other nodes know this one as.
    pub const fn public_key(&self) -> PublicKey {
        self.public_key
    }

    /// Brings a device in line that carries packets of a family; answers whether there was something to
    /// change.
    pub fn reconcile(
        &mut self,
        interface: IfIndex,
        family: Family,
        conf: &WireguardConf,
        tunnels: &Tunnels,
    ) -> kernel::Result<bool> {
        let have = self.kernel.device(interface)?;
        let told = self.told.entry(interface).or_default();
        let port = conf.port(family);
        let settings = plan::wireguard_settings(&have, self.key, port, conf, tunnels, told);
        if let Some(settings) = &settings {
            self.kernel.set(interface, settings)?;
        }
        *told = tunnels.endpoints();
        Ok(settings.is_some())
    }

    /// Has nodes of a device be as they are `now`, which were as `before`, and leaves the others alone; answers
    /// whether there was something to change.
    pub fn change(
        &mut self,
        interface: IfIndex,
        conf: &WireguardConf,
        before: &Tunnels,
        now: &Tunnels,
    ) -> kernel::Result<bool> {
        let Some(settings) = plan::tunnel_changes(conf, before, now) else {
            return Ok(false);
        };
        self.kernel.set(interface, &settings)?;
        let told = self.told.entry(interface).or_default();
        told.retain(|key, _| !before.0.contains_key(key));
        told.extend(now.endpoints());
        Ok(true)
    }

    fn remove_devices(&self) -> kernel::Result<()> {
        let mut kernel = route::Handle::open()?;
        for name in &self.devices {
            if let Some(link) = kernel.link_by_name(name)? {
                kernel.apply(&[Change::DeleteLink(link.index)])?;
            }
        }
        Ok(())
    }
}

impl Drop for Wireguard {
    fn drop(&mut self) {
        if let Err(error) = self.remove_devices() {
            tracing::warn!("a WireGuard device is left behind: {error}");
        }
    }
}
