//! Listening at places that come and go: what is wanted, what is open, and what can't be had.

use std::{
    collections::{BTreeMap, BTreeSet},
    io, mem,
    net::SocketAddr,
};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// Something that listens at a place.
pub trait Listener: Sized {
    /// Where.
    type Place: Clone + Ord;
    /// What it has to know, which may change while it listens.
    type Subject;

    /// Listens at a place.
    ///
    /// # Errors
    /// If the place can't be had.
    fn open(place: &Self::Place, subject: &Self::Subject) -> io::Result<Self>;

    /// Tells it what it has to know by now.
    fn update(&self, subject: Self::Subject);

    /// Comes back when the place is free.
    fn close(self, place: &Self::Place) -> impl Future<Output = ()> + Send;
}

/// All that listen.
#[derive(Debug)]
pub struct Listening<L: Listener> {
    running: BTreeMap<L::Place, L>,
    /// Places that can't be had, which has been told.
    missing: BTreeSet<L::Place>,
}

// === impl Listening ===

impl<L: Listener> Default for Listening<L> {
    fn default() -> Self {
        Self {
            running: BTreeMap::new(),
            missing: BTreeSet::new(),
        }
    }
}

impl<L: Listener> Listening<L> {
    /// Whether there are places that can't be had.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }

    /// Opens, closes and updates what has to be: closes first, as a place may go from one to another. `refused` is
    /// told of each place that can't be had, once.
    pub async fn follow(
        &mut self,
        wanted: BTreeMap<L::Place, L::Subject>,
        mut refused: impl FnMut(&L::Place, &L::Subject, io::Error),
    ) {
        let running = mem::take(&mut self.running).into_iter();
        let (staying, closing): (BTreeMap<_, _>, BTreeMap<_, _>) =
            running.partition(|(place, _)| wanted.contains_key(place));
        self.running = staying;
        for (place, listener) in closing {
            listener.close(&place).await;
        }
        self.missing.retain(|place| wanted.contains_key(place));
        for (place, subject) in wanted {
            match self.running.get(&place) {
                Some(listener) => listener.update(subject),
                None => self.open(place, &subject, &mut refused),
            }
        }
    }

    fn open(
        &mut self,
        place: L::Place,
        subject: &L::Subject,
        refused: &mut impl FnMut(&L::Place, &L::Subject, io::Error),
    ) {
        match L::open(&place, subject) {
            Ok(listener) => {
                self.missing.remove(&place);
                self.running.insert(place, listener);
            }
            Err(error) => {
                if self.missing.insert(place.clone()) {
                    refused(&place, subject, error);
                }
            }
        }
    }
}

/// Listens at an address, for a runtime to accept from; at an IPv6 one without taking the port of IPv4 too, as that
/// has a listener of its own.
///
/// # Errors
/// If the address or the port can't be had.
pub fn listen(address: SocketAddr) -> io::Result<tokio::net::TcpListener> {
    let socket = bind(address, Type::STREAM, Protocol::TCP)?;
    socket.listen(BACKLOG)?;
    tokio::net::TcpListener::from_std(socket.into())
}

/// Takes datagrams at an address in the same way.
///
/// # Errors
/// If the address or the port can't be had.
pub fn listen_for_datagrams(address: SocketAddr) -> io::Result<tokio::net::UdpSocket> {
    let socket = bind(address, Type::DGRAM, Protocol::UDP)?;
    tokio::net::UdpSocket::from_std(socket.into())
}

fn bind(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    // Of datagrams, two sockets would share what comes.
    if kind == Type::STREAM {
        socket.set_reuse_address(true)?;
    }
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}
