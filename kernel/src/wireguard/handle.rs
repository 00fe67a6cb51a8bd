//! The way into the kernel.

use super::{Device, Settings, WG_CMD_GET_DEVICE, WGDEVICE_A_IFINDEX};
use crate::{
    Error, Result,
    genl::{self, Channel},
    netns::Namespace,
    route::IfIndex,
};

/// The name of the generic netlink family.
const FAMILY: &str = "wireguard";

/// Reads and changes the WireGuard devices of one network namespace.
#[derive(Debug)]
pub struct Handle {
    channel: Channel,
}

// === impl Handle ===

impl Handle {
    /// Works on the calling thread's network namespace.
    ///
    /// # Errors
    /// Not found ([`Error::is_not_found`]) if the kernel has no WireGuard.
    pub fn open() -> Result<Self> {
        Channel::open(FAMILY).map(|channel| Self { channel })
    }

    /// Works on another network namespace.
    ///
    /// # Errors
    /// As [`Handle::open`].
    pub fn open_in(namespace: &Namespace) -> Result<Self> {
        Channel::open_in(namespace, FAMILY).map(|channel| Self { channel })
    }

    /// What is in a device.
    pub fn device(&mut self, interface: IfIndex) -> Result<Device> {
        let mut body = genl::start(WG_CMD_GET_DEVICE);
        body.put(WGDEVICE_A_IFINDEX, &interface.0.to_ne_bytes());
        let request = self.channel.request(body);
        let replies = self
            .channel
            .socket
            .dump(&request)
            .map_err(|error| Error::new(format!("wg show {interface}"), error))?;
        let mut device = Device::default();
        for reply in &replies {
            device.read(&reply.body);
        }
        Ok(device)
    }

    /// Changes what is in a device. Many peers and networks go in several messages, so that others may
    /// see some of the changes before the rest.
    pub fn set(&mut self, interface: IfIndex, settings: &Settings) -> Result<()> {
        let requests: Vec<_> = settings
            .to_bodies(interface)
            .into_iter()
            .map(|body| self.channel.request(body))
            .collect();
        self.channel
            .socket
            .batch(&requests)
            .and_then(|outcomes| outcomes.into_iter().collect())
            .map_err(|error| Error::new(format!("wg set {interface}"), error))
    }
}
