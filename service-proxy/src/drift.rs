//! What others change in our tables, to be repaired at once.

mod addresses;

use std::io;

use kernel::{Family, nft};
use tokio::io::unix::AsyncFd;

use crate::report;

pub use addresses::{AddressDrift, Bound};

/// Tells when somebody else changes a table of ours, or addresses.
#[derive(Debug)]
pub struct Drift {
    monitor: AsyncFd<nft::Monitor>,
    table: &'static str,
    addresses: Option<AddressDrift>,
}

/// The kernel's announcements can't be had.
#[derive(Debug, thiserror::Error)]
pub enum CannotWatch {
    /// The kernel refuses them.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// The runtime can't wait for them.
    #[error("wait for announced changes of nftables: {0}")]
    Runtime(#[from] io::Error),
}

// === impl Drift ===

impl Drift {
    /// Watches for what others than `ours` change in a table; what has changed before is not told.
    ///
    /// # Errors
    /// If the kernel or the runtime refuses.
    #[expect(
        deprecated,
        reason = "its replacement is unsafe; a monitor keeps its descriptor as long as it lives"
    )]
    pub fn open(ours: &nft::Handle, table: &'static str) -> Result<Self, CannotWatch> {
        let monitor = nft::Monitor::open_besides(ours)?;
        Ok(Self {
            monitor: AsyncFd::new(monitor)?,
            table,
            addresses: None,
        })
    }

    /// Watches addresses too.
    pub fn with_addresses(self, addresses: AddressDrift) -> Self {
        Self {
            addresses: Some(addresses),
            ..self
        }
    }

    /// Waits for a change of one of our tables or of addresses, or for more changes than could be looked at. May
    /// be dropped while it waits.
    pub async fn next(&mut self) {
        loop {
            tokio::select! {
                () = ready(&mut self.monitor) => {
                    if !self.take().is_empty() {
                        return;
                    }
                }
                () = changed(&mut self.addresses) => return,
            }
        }
    }

    /// What can't be received counts as changed.
    fn take(&mut self) -> Vec<Family> {
        match self.monitor.get_mut().changed(self.table) {
            Ok(families) => families.into_iter().collect(),
            Err(error) => {
                report::not_watched(&error);
                Family::ALL.into()
            }
        }
    }
}

/// Waits until there is something to read.
async fn ready<M: std::os::fd::AsRawFd>(monitor: &mut AsyncFd<M>) {
    match monitor.readable_mut().await {
        Ok(mut guard) => guard.clear_ready(),
        // Only when the runtime ends.
        Err(_) => std::future::pending().await,
    }
}

async fn changed(addresses: &mut Option<AddressDrift>) {
    match addresses {
        Some(addresses) => addresses.next().await,
        None => std::future::pending().await,
    }
}
