//! Announcements of changes (multicast groups), for whoever keeps the kernel's tables right.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, SockFlag},
};

use super::{Error, Protocol, Reply, Result, Socket, descriptor, message::Received};
use crate::netns::Namespace;

/// A socket that the kernel's announcements arrive at. It never blocks: wait until it is readable
/// (`tokio::io::unix::AsyncFd`, poll(2)), then [`Monitor::drain`] it.
///
/// Open it *before* reading the table that it watches, so that nothing falls between the two.
#[derive(Debug)]
pub struct Monitor {
    fd: OwnedFd,
    receive: Vec<u8>,
    /// The port whose own changes are left out.
    besides: Option<u32>,
}

/// What has arrived since the last time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every announcement, in order; none if the socket was not readable.
    Messages(Vec<Reply>),
    /// Announcements were lost, as more came than the receive buffer holds: read the tables again.
    Overrun,
}

// === impl Monitor ===

impl Monitor {
    /// Joins multicast groups (`RTNLGRP_*`, `NFNLGRP_*`, by number) in the calling thread's network
    /// namespace.
    pub fn open(protocol: Protocol, groups: &[u32]) -> Result<Self> {
        let fd = descriptor::open(protocol, SockFlag::SOCK_NONBLOCK)?;
        for group in groups {
            descriptor::set_option(&fd, libc::NETLINK_ADD_MEMBERSHIP, group.cast_signed())?;
        }
        Ok(Self {
            fd,
            receive: Vec::new(),
            besides: None,
        })
    }

    /// Leaves out from now on what is announced of the changes that a socket makes itself.
    pub fn leave_out(&mut self, socket: &Socket) -> Result<()> {
        self.besides = Some(socket.port()?);
        Ok(())
    }

    /// Joins multicast groups of another network namespace.
    ///
    /// # Errors
    /// Also if the namespace can't be entered.
    pub fn open_in(
        namespace: &Namespace,
        protocol: Protocol,
        groups: &[u32],
    ) -> crate::Result<Self> {
        namespace
            .run(|| Self::open(protocol, groups))?
            .map_err(|error| {
                let attempted = format!("watch {protocol:?} netlink groups {groups:?}");
                crate::Error::new(attempted, error)
            })
    }

    /// Takes everything that has arrived, without waiting; the socket is not readable afterwards.
    pub fn drain(&mut self) -> Result<Drained> {
        let mut messages = Vec::new();
        let mut overrun = false;
        loop {
            match self.receive(&mut messages) {
                Ok(()) => {}
                Err(error) if error.errno() == Some(Errno::ENOBUFS) => overrun = true,
                Err(error) if error.errno() == Some(Errno::EAGAIN) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(if overrun {
            Drained::Overrun
        } else {
            Drained::Messages(messages)
        })
    }

    /// Receives one datagram.
    fn receive(&mut self, messages: &mut Vec<Reply>) -> Result<()> {
        let flags = MsgFlags::MSG_DONTWAIT;
        let len = match descriptor::receive(&self.fd, &mut self.receive, flags) {
            Err(Errno::EINTR) => return Ok(()),
            other => other?,
        };
        let mut rest = self.receive.get(..len).ok_or_else(|| {
            Error::Malformed(format!(
                "announcement of {len} bytes does not fit the buffer"
            ))
        })?;
        while let Some(received) = Received::take_first(&mut rest)? {
            if self.besides != Some(received.port) {
                messages.push(received.into());
            }
        }
        Ok(())
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
