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
use crate::report;

/// The addresses that we have given to our interface; shared with who gives them, so that our own changes are not
/// taken for those of others.
pub type Bound = Arc<Mutex<BTreeSet<IpAddr>>>;

/// Tells when somebody else changes the node's addresses.
#[derive(Debug)]
pub struct AddressDrift {
    monitor: AsyncFd<Monitor>,
    /// Our interface; it is another when somebody has removed it and it was made again.
    ours: Option<IfIndex>,
    name: IfName,
    bound: Bound,
}

// === impl AddressDrift ===

impl AddressDrift {
    /// Watches for addresses that come and go, but for those that are `bound` on an interface of ours.
    ///
    /// # Errors
    /// If the kernel or the runtime refuses.
    #[expect(
        deprecated,
        reason = "its replacement is unsafe; a monitor keeps its descriptor as long as it lives"
    )]
    pub fn open(name: &IfName, bound: &Bound) -> Result<Self, CannotWatch> {
        let monitor = Monitor::open(&[Topic::Addresses, Topic::Links])?;
        let link = route::Handle::open()?.link_by_name(name)?;
        Ok(Self {
            monitor: AsyncFd::new(monitor)?,
            ours: link.map(|link| link.index),
            name: name.clone(),
            bound: Arc::clone(bound),
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
            Event::AddressChanged(state) => self.is_foreign(&state.address, true),
            Event::AddressRemoved(address) => self.is_foreign(&address, false),
            Event::Resync => true,
            _ => false,
        }
    }

    /// Whether a change is none of ours: on another interface, or not what we have made of the address.
    fn is_foreign(&self, address: &Address, stands: bool) -> bool {
        let bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        self.ours != Some(address.interface) || bound.contains(&address.address.ip()) != stands
    }
}
