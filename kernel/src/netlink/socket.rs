//! The socket: batches, dumps, and nothing else.

use std::{
    io::IoSlice,
    ops::ControlFlow,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::socket::{self, MsgFlags, NetlinkAddr, SockFlag},
};

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR};

use super::{
    Error, Reply, Request, Result, descriptor,
    message::{NLMSG_DONE, NLMSG_ERROR, Received},
};

/// Requests sent in one `sendmsg`. The kernel answers all of them before the call returns, so the
/// answers (at the worst an error each) have to fit the default receive buffer of 208 KiB.
const BATCH_REQUESTS: usize = 128;
/// Bytes sent in one `sendmsg` by [`Socket::batch`]; well within the default send buffer.
const BATCH_BYTES: usize = 64 << 10;
/// How often an interrupted dump is tried again.
const DUMP_ATTEMPTS: usize = 10;

/// A netlink protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `NETLINK_ROUTE`: links, addresses, routes, neighbours.
    Route,
    /// `NETLINK_NETFILTER`: nftables, conntrack.
    Netfilter,
    /// `NETLINK_GENERIC`: families that are known by name, as WireGuard.
    Generic,
}

/// A synchronous netlink socket in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
    sent: u64,
    receive: Vec<u8>,
}

// === impl Protocol ===

impl Protocol {
    const fn name(self) -> &'static str {
        match self {
            Self::Route => "route",
            Self::Netfilter => "netfilter",
            Self::Generic => "generic",
        }
    }
}

// === impl Socket ===

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open(protocol: Protocol) -> Result<Self> {
        let fd = descriptor::open(protocol, SockFlag::empty())?;
        descriptor::enable(&fd, libc::NETLINK_EXT_ACK);
        descriptor::enable(&fd, libc::NETLINK_CAP_ACK);
        descriptor::enable(&fd, libc::NETLINK_GET_STRICT_CHK);
        Ok(Self {
            fd,
            sequence: 0,
            sent: 0,
            receive: Vec::new(),
        })
    }

    /// The number that the kernel knows the socket by in its network namespace (`nl_pid`).
    pub(super) fn port(&self) -> Result<u32> {
        let address: NetlinkAddr = socket::getsockname(self.fd.as_raw_fd())?;
        Ok(address.pid())
    }

    /// How many changing requests were sent so far: a reconcile that finds nothing to do leaves it as it is.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Sends independent requests, as many as fit in each system call, and answers with the outcome of
    /// each in their order. A refused request does not keep the later ones from being carried out.
    ///
    /// # Errors
    /// If the exchange itself fails; what was carried out by then is unknown.
    pub fn batch(&mut self, requests: &[Request]) -> Result<Vec<Result<()>>> {
        let mut outcomes = Vec::with_capacity(requests.len());
        let mut rest = requests;
        while !rest.is_empty() {
            let (chunk, later) = rest.split_at(chunk_len(rest));
            outcomes.extend(self.exchange(chunk)?);
            rest = later;
        }
        Ok(outcomes)
    }

    /// Sends requests that the kernel carries out all or none (an nfnetlink batch) in one system call.
    /// `requests` are the messages between begin and end.
    ///
    /// # Errors
    /// The first refusal, with the index of the request that was refused (`None`: the batch as a whole).
    pub fn atomic(
        &mut self,
        begin: &Request,
        requests: &[Request],
        end: &Request,
    ) -> Result<(), (Option<usize>, Error)> {
        let whole = |error| (None, error);
        let (first, buffer) = self.frame(begin, requests, end);
        self.send(&buffer).map_err(whole)?;
        self.sent += requests.len() as u64;
        let last = first.wrapping_add(requests.len() as u32);
        let mut refused: Option<(u32, Error)> = None;
        let mut acknowledged = requests.is_empty();
        self.drain(|received| {
            let offset = received.sequence.wrapping_sub(first);
            if received.kind == NLMSG_ERROR && offset <= requests.len() as u32 {
                match received.verdict() {
                    Ok(()) => acknowledged |= received.sequence == last,
                    Err(error) => {
                        refused.get_or_insert((offset, error));
                    }
                }
            }
            // The whole batch may still be refused after its last message was accepted.
            ControlFlow::Continue(())
        })
        .map_err(whole)?;
        match refused {
            Some((offset, error)) => Err(((offset as usize).checked_sub(1), error)),
            None if acknowledged => Ok(()),
            None => Err(whole(Error::Malformed(
                "the batch was not acknowledged".into(),
            ))),
        }
    }

    /// Asks for one object and answers with the messages that describe it.
    pub fn get(&mut self, request: &Request) -> Result<Vec<Reply>> {
        let sequence = self.next_sequence();
        let mut buffer = Vec::with_capacity(request.wire_len());
        request.write(NLM_F_ACK, sequence, &mut buffer);
        self.send(&buffer)?;
        let mut replies = Vec::new();
        let mut verdict = None;
        self.drain(|received| {
            if received.sequence != sequence {
                return ControlFlow::Continue(());
            }
            if received.kind == NLMSG_ERROR {
                verdict = Some(received.verdict());
                return ControlFlow::Break(());
            }
            replies.push(received.into());
            ControlFlow::Continue(())
        })?;
        verdict
            .unwrap_or_else(|| Err(Error::Malformed("the request was not acknowledged".into())))
            .map(|()| replies)
    }

    /// Reads a whole table; starts again where the kernel says that it changed meanwhile.
    pub fn dump(&mut self, request: &Request) -> Result<Vec<Reply>> {
        self.dump_map(request, |received| Some(received.into()))
    }

    /// As [`Socket::dump`], for large tables: each message is handed on from the receive buffer, and
    /// only what `parse` makes of it is kept.
    pub(crate) fn dump_parsed<T>(
        &mut self,
        request: &Request,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>> {
        self.dump_map(request, |received| parse(received.body))
    }

    fn dump_map<T>(
        &mut self,
        request: &Request,
        parse: impl Fn(Received<'_>) -> Option<T>,
    ) -> Result<Vec<T>> {
        for _ in 0..DUMP_ATTEMPTS {
            if let Some(objects) = self.dump_once(request, &parse)? {
                return Ok(objects);
            }
        }
        Err(Error::KeepsChanging)
    }

    /// `None` if the table changed while it was read.
    fn dump_once<T>(
        &mut self,
        request: &Request,
        parse: impl Fn(Received<'_>) -> Option<T>,
    ) -> Result<Option<Vec<T>>> {
        let sequence = self.next_sequence();
        let mut buffer = Vec::with_capacity(request.wire_len());
        request.write(NLM_F_DUMP, sequence, &mut buffer);
        self.send(&buffer)?;
        let mut objects = Vec::new();
        let mut interrupted = false;
        loop {
            let mut verdict = None;
            self.receive(MsgFlags::empty(), |received| {
                if received.sequence != sequence {
                    return;
                }
                interrupted |= received.flags & NLM_F_DUMP_INTR != 0;
                match received.kind {
                    NLMSG_DONE | NLMSG_ERROR => verdict = Some(received.verdict()),
                    _ => objects.extend(parse(received)),
                }
            })?;
            match verdict {
                Some(Ok(())) => return Ok((!interrupted).then_some(objects)),
                // nfnetlink says by EINTR what rtnetlink says by the flag.
                Some(Err(error)) if error.errno() == Some(Errno::EINTR) => return Ok(None),
                Some(Err(error)) => return Err(error),
                None => {}
            }
        }
    }

    /// One `sendmsg` of independent requests. Only the last asks for an acknowledgement; errors come anyway.
    fn exchange(&mut self, requests: &[Request]) -> Result<Vec<Result<()>>> {
        let first = self.sequence.wrapping_add(1);
        let mut buffer = Vec::with_capacity(requests.iter().map(Request::wire_len).sum());
        for (index, request) in requests.iter().enumerate() {
            let ack = if index + 1 == requests.len() {
                NLM_F_ACK
            } else {
                0
            };
            request.write(ack, self.next_sequence(), &mut buffer);
        }
        self.send(&buffer)?;
        self.sent += requests.len() as u64;
        let mut outcomes: Vec<Result<()>> = requests.iter().map(|_| Ok(())).collect();
        let mut answered = false;
        self.drain(|received| {
            let index = received.sequence.wrapping_sub(first) as usize;
            if let (NLMSG_ERROR, Some(outcome)) = (received.kind, outcomes.get_mut(index)) {
                *outcome = received.verdict();
                answered |= index + 1 == requests.len();
            }
            match answered {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        if answered {
            Ok(outcomes)
        } else {
            Err(Error::Malformed("the batch was not acknowledged".into()))
        }
    }

    /// The bytes of an atomic batch, and the sequence number of its begin message.
    fn frame(&mut self, begin: &Request, requests: &[Request], end: &Request) -> (u32, Vec<u8>) {
        let len = begin.wire_len()
            + end.wire_len()
            + requests.iter().map(Request::wire_len).sum::<usize>();
        let mut buffer = Vec::with_capacity(len);
        let first = self.next_sequence();
        begin.write(0, first, &mut buffer);
        for (index, request) in requests.iter().enumerate() {
            let ack = if index + 1 == requests.len() {
                NLM_F_ACK
            } else {
                0
            };
            request.write(ack, self.next_sequence(), &mut buffer);
        }
        end.write(0, self.next_sequence(), &mut buffer);
        (first, buffer)
    }

    fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    fn send(&self, buffer: &[u8]) -> Result<()> {
        let kernel = NetlinkAddr::new(0, 0);
        socket::sendmsg(
            self.fd.as_raw_fd(),
            &[IoSlice::new(buffer)],
            &[],
            MsgFlags::empty(),
            Some(&kernel),
        )?;
        Ok(())
    }

    /// Handles what is in the receive queue until `handle` has seen the last that it waits for, or nothing is
    /// left: after `sendmsg` returned, the kernel has answered every request that is not a dump.
    fn drain(&mut self, mut handle: impl FnMut(Received<'_>) -> ControlFlow<()>) -> Result<()> {
        let mut is_last = false;
        while !is_last {
            match self.receive(MsgFlags::MSG_DONTWAIT, |it| {
                is_last |= handle(it).is_break()
            }) {
                Err(error) if error.errno() == Some(Errno::EAGAIN) => break,
                other => other?,
            }
        }
        Ok(())
    }

    /// Receives one datagram and hands on its messages.
    fn receive(&mut self, flags: MsgFlags, mut handle: impl FnMut(Received<'_>)) -> Result<()> {
        let len = loop {
            match descriptor::receive(&self.fd, &mut self.receive, flags) {
                Err(Errno::EINTR) => {}
                other => break other?,
            }
        };
        let mut rest = self.receive.get(..len).ok_or_else(|| {
            Error::Malformed(format!("answer of {len} bytes does not fit the buffer"))
        })?;
        while let Some(received) = Received::take_first(&mut rest)? {
            handle(received);
        }
        Ok(())
    }
}

/// [`Socket::open`], with an error that says what was attempted.
pub(crate) fn open(protocol: Protocol) -> crate::Result<Socket> {
    Socket::open(protocol).map_err(|error| {
        let attempted = format!("open a {} netlink socket", protocol.name());
        crate::Error::new(attempted, error)
    })
}

/// How many of the requests go into the next system call; at least one.
fn chunk_len(requests: &[Request]) -> usize {
    let mut bytes = 0;
    requests
        .iter()
        .take(BATCH_REQUESTS)
        .take_while(|request| {
            bytes += request.wire_len();
            bytes <= BATCH_BYTES
        })
        .count()
        .max(1)
}
