//! What happens in the kernel, to be repaired at once.

use std::io;

use kernel::route::{Event, Monitor, Topic};
use tokio::io::unix::AsyncFd;

use crate::{plan::Watched, report::Notices};

/// Tells when something changes in the kernel that a [`Watched`] is concerned by.
pub struct Drift {
    monitor: AsyncFd<Monitor>,
    notices: Notices,
}

/// The kernel's announcements can't be had.
#[derive(Debug, thiserror::Error)]
pub enum CannotWatch {
    /// The kernel refuses them.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// The runtime can't wait for them.
    #[error("can't wait for the kernel's announcements: {0}")]
    Runtime(#[from] io::Error),
}

// === impl Drift ===

impl Drift {
    /// Watches the node's network; to be opened before its tables are read.
    #[expect(
        deprecated,
        reason = "its replacement is unsafe; a monitor keeps its descriptor as long as it lives"
    )]
    pub fn open() -> Result<Self, CannotWatch> {
        Ok(Self {
            monitor: AsyncFd::new(Monitor::open(&Topic::ALL)?)?,
            notices: Notices::default(),
        })
    }

    /// Waits for a change that concerns. May be dropped while it waits.
    pub async fn next(&mut self, watched: &Watched) {
        loop {
            match self.monitor.readable_mut().await {
                Ok(mut guard) => guard.clear_ready(),
                // Only when the runtime ends.
                Err(_) => std::future::pending().await,
            }
            if self.take().iter().any(|event| watched.concerns(event)) {
                return;
            }
        }
    }

    /// Whether there has been a change that concerns, without waiting for one.
    pub fn has_happened(&mut self, watched: &Watched) -> bool {
        self.take().iter().any(|event| watched.concerns(event))
    }

    /// Forgets what has happened so far, as everything is about to be read.
    pub fn forget(&mut self) {
        self.take();
    }

    /// What can't be received counts as lost.
    fn take(&mut self) -> Vec<Event> {
        match self.monitor.get_mut().events() {
            Ok(events) => events,
            Err(error) => {
                self.notices
                    .set([format!("changes may be noticed late: {error}")]);
                vec![Event::Resync]
            }
        }
    }
}
