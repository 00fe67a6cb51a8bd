//! Announcements that a table was changed.

use std::{
    collections::BTreeSet,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
};

use super::{Handle, wire};
use crate::{
    Error, Family, Result,
    netlink::{self, Drained, Protocol},
};

/// `NFNLGRP_NFTABLES`.
const GROUP: u32 = 7;

/// A socket that the kernel's announcements of changed tables arrive at, whoever changed them. It never blocks:
/// wait until it is readable, then [`Monitor::changed`].
///
/// Open it before reading the tables that it watches.
#[derive(Debug)]
pub struct Monitor {
    socket: netlink::Monitor,
}

/// A change of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The family of the table.
    pub family: Family,
    /// Its name.
    pub table: String,
    /// The chain that was made or removed, or whose rules were changed; `None` for other changes.
    pub chain: Option<String>,
    /// Whether something was removed.
    pub removed: bool,
}

// === impl Monitor ===

impl Monitor {
    /// Watches the tables of the calling thread's network namespace.
    pub fn open() -> Result<Self> {
        netlink::Monitor::open(Protocol::Netfilter, &[GROUP])
            .map(|socket| Self { socket })
            .map_err(refused)
    }

    /// The same, but for what is changed by way of a handle of that namespace.
    pub fn open_besides(handle: &Handle) -> Result<Self> {
        let mut monitor = Self::open()?;
        let left_out = monitor.socket.leave_out(handle.socket());
        left_out.map_err(refused)?;
        Ok(monitor)
    }

    /// The families whose table of a name was changed since the last time, or may have been, as there were
    /// more announcements than the socket holds.
    pub fn changed(&mut self, table: &str) -> Result<BTreeSet<Family>> {
        Ok(match self.drain()? {
            Drained::Overrun => Family::ALL.into(),
            Drained::Messages(messages) => messages
                .iter()
                .filter_map(|message| wire::family_of_table(message, table))
                .collect(),
        })
    }

    /// What was changed since the last time, in tables of one family of addresses; `None` if there were more
    /// announcements than the socket holds.
    pub fn changes(&mut self) -> Result<Option<Vec<Change>>> {
        Ok(match self.drain()? {
            Drained::Overrun => None,
            Drained::Messages(messages) => {
                Some(messages.iter().filter_map(wire::decode_change).collect())
            }
        })
    }

    fn drain(&mut self) -> Result<Drained> {
        let drained = self.socket.drain();
        drained.map_err(|error| Error::new("read announced changes of nftables", error))
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

fn refused(error: netlink::Error) -> Error {
    Error::new("watch changes of nftables", error)
}
