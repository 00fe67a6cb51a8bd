//! What becomes of the node's addresses.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use kernel::{
    IfName,
    route::{self, Address, Event, IfIndex, Monitor, Topic},
};
use tokio::io::unix::AsyncFd;

use super::{CannotWatch, ready};
use crate::{plan::ipvs::Concern, report};

/// Which addresses matter; shared with who gives addresses to our interface, so that our own changes are not taken
/// for those of others.
pub type Concerns = Arc<Mutex<Concern>>;

/// Tells when somebody else changes those of the node's addresses that matter.
#[derive(Debug)]
pub struct AddressDrift {
    monitor: AsyncFd<Monitor>,
    /// Our interface; it is another when somebody has removed it and it was made again.
    ours: Option<IfIndex>,
    name: IfName,
    /// The addresses of all interfaces.
    known: Known,
    concerns: Concerns,
}

/// Addresses, each with an interface that has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known(BTreeSet<(IpAddr, IfIndex)>);

// === impl AddressDrift ===

impl AddressDrift {
    /// Watches for addresses that come and go, as far as they matter, but for what we do ourselves on an interface
    /// of ours.
    ///
    /// # Errors
    /// If the kernel or the runtime refuses.
    #[expect(
        deprecated,
        reason = "its replacement is unsafe; a monitor keeps its descriptor as long as it lives"
    )]
    pub fn open(name: &IfName, concerns: &Concerns) -> Result<Self, CannotWatch> {
        let monitor = Monitor::open(&[Topic::Addresses, Topic::Links])?;
        let mut route = route::Handle::open()?;
        let link = route.link_by_name(name)?;
        Ok(Self {
            monitor: AsyncFd::new(monitor)?,
            ours: link.map(|link| link.index),
            name: name.clone(),
            known: Known::read(&mut route)?,
            concerns: Arc::clone(concerns),
        })
    }

    /// Waits for a change by others. May be dropped while it waits.
    pub async fn next(&mut self) {
        loop {
            ready(&mut self.monitor).await;
            match self.monitor.get_mut().events() {
                Ok(events) => {
                    // All are taken in, whatever the first says.
                    let told = events.into_iter().map(|event| self.is_news(event));
                    if told.fold(false, |any, news| any | news) {
                        return;
                    }
                }
                Err(error) => {
                    report::not_watched(&error);
                    return;
                }
            }
        }
    }

    fn is_news(&mut self, event: Event) -> bool {
        match event {
            Event::LinkChanged(link) if link.name == self.name => {
                self.ours = Some(link.index);
                false
            }
            Event::LinkRemoved(link) => self.ours == Some(link.index),
            Event::AddressChanged(state) => self.matters(&state.address, true),
            Event::AddressRemoved(address) => self.matters(&address, false),
            Event::Resync => {
                match route::Handle::open().and_then(|mut route| Known::read(&mut route)) {
                    Ok(known) => self.known = known,
                    Err(error) => report::not_watched(&error),
                }
                true
            }
            _ => false,
        }
    }

    /// Whether a change is none of ours, and makes a difference: of our interface, that it is not what we have made
    /// of the address; of others, that the node has it now or has it no longer, and somebody asks for it.
    fn matters(&mut self, address: &Address, stands: bool) -> bool {
        let concern = self.concerns.lock();
        let concern = concern.unwrap_or_else(PoisonError::into_inner);
        let ip = address.address.ip();
        if self.ours == Some(address.interface) {
            return concern.bound.contains(&ip) != stands;
        }
        self.known.note(ip, address.interface, stands) && concern.has(ip)
    }
}

// === impl Known ===

impl Known {
    fn read(route: &mut route::Handle) -> kernel::Result<Self> {
        let all = route.addresses(None)?.into_iter();
        Ok(Self(
            all.map(|it| (it.address.ip(), it.interface)).collect(),
        ))
    }

    /// Takes in that an interface has an address, or has it no longer; answers whether that makes a difference to
    /// what the node has: each pod may bring the same one.
    fn note(&mut self, address: IpAddr, interface: IfIndex, stands: bool) -> bool {
        let had = self.has(address);
        if stands {
            self.0.insert((address, interface));
        } else {
            self.0.remove(&(address, interface));
        }
        had != self.has(address)
    }

    fn has(&self, address: IpAddr) -> bool {
        let range = (address, IfIndex(u32::MIN))..=(address, IfIndex(u32::MAX));
        self.0.range(range).next().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_last_make_a_difference() {
        let gateway = IpAddr::from([10, 244, 1, 1]);
        let mut known = Known::default();
        for (interface, stands, expected) in [
            (5, true, true),
            // Its lifetime or state has changed.
            (5, true, false),
            (6, true, false),
            (5, false, false),
            (7, false, false),
            (6, false, true),
        ] {
            let news = known.note(gateway, IfIndex(interface), stands);
            assert_eq!(news, expected, "{interface} {stands}");
        }
    }
}
