//! What others change in our tables, to be repaired at once.

mod addresses;

use std::{
    io,
    os::fd::AsRawFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use kernel::nft;
use tokio::io::unix::AsyncFd;

use crate::{
    plan::{
        iptables,
        nftables::{IPVS_TABLE, TABLE},
    },
    report,
};

pub use addresses::{AddressDrift, Concerns};

/// Tells when somebody else changes a table of ours, or addresses.
#[derive(Debug)]
pub struct Drift {
    monitor: AsyncFd<nft::Monitor>,
    watched: Watched,
    addresses: Option<AddressDrift>,
}

/// What is watched.
#[derive(Debug)]
enum Watched {
    /// Our own table of nftables, by its name.
    Table(&'static str),
    /// The chains of iptables mode; this is set when one of them is changed.
    Chains(Arc<AtomicBool>),
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
    /// Watches for what others than `ours` change; what has changed before is not told.
    ///
    /// # Errors
    /// If the kernel or the runtime refuses.
    pub fn open(ours: &nft::Handle) -> Result<Self, CannotWatch> {
        Self::watch(ours, Watched::Table(TABLE))
    }

    /// The same of the chains of iptables mode in nf_tables; sets `disturbed` when one is changed.
    ///
    /// # Errors
    /// If the kernel or the runtime refuses.
    pub fn of_iptables(
        ours: &nft::Handle,
        disturbed: Arc<AtomicBool>,
    ) -> Result<Self, CannotWatch> {
        Self::watch(ours, Watched::Chains(disturbed))
    }

    /// The same of the table beside IPVS, and of addresses.
    ///
    /// # Errors
    /// If the kernel or the runtime refuses.
    pub fn of_ipvs(ours: &nft::Handle, addresses: AddressDrift) -> Result<Self, CannotWatch> {
        let drift = Self::watch(ours, Watched::Table(IPVS_TABLE))?;
        Ok(Self {
            addresses: Some(addresses),
            ..drift
        })
    }

    #[expect(
        deprecated,
        reason = "its replacement is unsafe; a monitor keeps its descriptor as long as it lives"
    )]
    fn watch(ours: &nft::Handle, watched: Watched) -> Result<Self, CannotWatch> {
        let monitor = nft::Monitor::open_besides(ours)?;
        Ok(Self {
            monitor: AsyncFd::new(monitor)?,
            watched,
            addresses: None,
        })
    }

    /// Waits for a change of one of our tables or of addresses, or for more changes than could be looked at. May
    /// be dropped while it waits.
    pub async fn next(&mut self) {
        loop {
            tokio::select! {
                () = ready(&mut self.monitor) => {
                    if self.take() {
                        return;
                    }
                }
                () = changed(&mut self.addresses) => return,
            }
        }
    }

    /// Whether something of ours was changed. What can't be received counts as changed.
    fn take(&mut self) -> bool {
        let monitor = self.monitor.get_mut();
        let changed = match &self.watched {
            Watched::Table(table) => monitor.changed(table).map(|families| !families.is_empty()),
            Watched::Chains(_) => monitor
                .changes()
                .map(|changes| changes.is_none_or(|them| them.iter().any(iptables::is_drift))),
        };
        let changed = changed.unwrap_or_else(|error| {
            report::not_watched(&error);
            true
        });
        if let (Watched::Chains(disturbed), true) = (&self.watched, changed) {
            disturbed.store(true, Ordering::Relaxed);
        }
        changed
    }
}

/// Waits until there is something to read.
async fn ready<M: AsRawFd>(monitor: &mut AsyncFd<M>) {
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
