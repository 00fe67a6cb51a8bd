//! The devices that the overlay stands on, and what an earlier configuration has left of others.

use kernel::{
    Family,
    route::{Change, IfIndex, Link},
};

use super::{Error, Reconciler};
use crate::{
    agent::advertisements,
    model::ByFamily,
    plan::{self, Device, Place, Watched},
    source,
};

// === impl Reconciler ===

impl Reconciler {
    /// Where the entries of every family belong, once the devices are as they should be.
    pub(super) fn places(&mut self) -> Result<ByFamily<Place>, Error> {
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
                Some(device) => Some(self.watched_device(device)?),
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

    fn watched_device(&mut self, device: &Device) -> Result<IfIndex, Error> {
        self.watched.names.push(device.name.clone());
        let interface = self.device(device)?;
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
    fn device(&mut self, device: &Device) -> Result<IfIndex, Error> {
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
        advertisements::ignore(&device.name)?;
        Ok(link.index)
    }
}
