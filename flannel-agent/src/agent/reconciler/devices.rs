//! The devices that the overlay stands on, and what an earlier configuration has left of others.

use kernel::{
    Family,
    route::{Change, IfIndex, Link},
    sysctl,
};
use nix::errno::Errno;

use super::{Error, Reconciler};
use crate::{
    model::ByFamily,
    plan::{self, Device, Place, Watched},
    source,
};

// === impl Reconciler ===

impl Reconciler {
    /// Where the entries of every family belong, once the devices are as they should be.
    pub(super) fn places(&mut self, notices: &mut Vec<String>) -> Result<ByFamily<Place>, Error> {
        let underlay = self.site.underlay();
        let (name, underlay) = (underlay.name.clone(), underlay.interface);
        let overlays = self.site.overlays().clone();
        self.watched = Watched {
            names: vec![name],
            devices: Vec::new(),
            link: self.site.routes_directly().then_some(underlay),
            networks: overlays.iter().map(|(_, it)| it.network).collect(),
            standing: ByFamily::default(),
        };
        let mut places = ByFamily::default();
        for (family, overlay) in overlays.iter() {
            let device = match &overlay.device {
                Some(device) => Some(self.watched_device(device, notices)?),
                None => None,
            };
            let in_whole = |device: &Device| device.takes_whole_network();
            let place = Place {
                family,
                device,
                underlay,
                network: overlay.network,
                whole_network: overlay.device.as_ref().is_some_and(in_whole),
            };
            places.insert(family, place);
        }
        Ok(places)
    }

    fn watched_device(
        &mut self,
        device: &Device,
        notices: &mut Vec<String>,
    ) -> Result<IfIndex, Error> {
        self.watched.names.push(device.name.clone());
        let interface = self.device(device, notices)?;
        self.watched.devices.push(interface);
        Ok(interface)
    }

    /// Removes, once, the devices and routes that an earlier configuration has left behind.
    pub(super) fn clean(&mut self, notices: &mut Vec<String>) -> Result<(), Error> {
        if self.cleaned {
            return Ok(());
        }
        let host = source::read_links(&mut self.kernel)?;
        let networks = self.site.overlays();
        let networks = networks.iter().map(|(family, it)| (family, it.network));
        let outdated = plan::outdated_devices(
            &host,
            self.site.node(),
            &networks.collect(),
            &self.watched.names,
        );
        for link in outdated {
            tracing::info!(
                "{} is left from an earlier configuration: removing it",
                link.name
            );
            self.kernel.apply(&[Change::DeleteLink(link.index)])?;
        }
        for family in Family::ALL {
            if self.site.overlays().get(family).is_none() {
                let routes = self.routes(family)?;
                self.apply(&plan::leftover_routes(&routes), notices)?;
            }
        }
        self.cleaned = true;
        Ok(())
    }

    /// Makes the device as it should be, and answers with its index.
    fn device(&mut self, device: &Device, notices: &mut Vec<String>) -> Result<IfIndex, Error> {
        let standing = self.kernel.link_by_name(&device.name)?;
        let changes = plan::link_changes(standing.as_ref(), device);
        let link = if changes.is_empty() {
            standing
        } else {
            self.count(&changes);
            self.kernel.apply(&changes)?;
            self.kernel.link_by_name(&device.name)?
        };
        let is_right = |link: &Link| plan::link_changes(Some(link), device).is_empty();
        let link = link
            .filter(is_right)
            .ok_or_else(|| Error::Device(device.name.clone()))?;
        notices.extend(refuse_router_advertisements(device)?);
        Ok(link.index)
    }
}

/// A pod on another node must not be able to configure the device (`accept_ra`, spec 1.7). A kernel
/// without IPv6 has no such setting. Answers with what is to be said where `/proc/sys` is read-only, as it is in
/// a container that is not privileged.
fn refuse_router_advertisements(device: &Device) -> kernel::Result<Option<String>> {
    let key = format!("net/ipv6/conf/{}/accept_ra", device.name);
    match sysctl::set(&key, "0") {
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) if error.errno() == Some(Errno::EROFS) => Ok(Some(format!(
            "{error}; goes on without: IPv6 router advertisements from pods of other nodes can configure this node \
             unless it forwards IPv6; set it on the node, outside the container"
        ))),
        other => other.map(|_| None),
    }
}
