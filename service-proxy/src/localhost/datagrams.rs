//! Datagrams to a NodePort on a loopback address, passed on: each client has a socket of its own towards the node's
//! other address, so that the kernel treats them as a flow and answers find back.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    net::UdpSocket,
    sync::watch,
    task::JoinHandle,
    time::{MissedTickBehavior, interval, sleep},
};

use super::relay::Destination;

/// How long a client is remembered that neither sends nor is answered: as long as the kernel remembers a flow with
/// answers (`net.netfilter.nf_conntrack_udp_timeout_stream`).
const IDLE: Duration = Duration::from_secs(120);
/// How often those who are to be forgotten are looked for.
const LOOK: Duration = Duration::from_secs(10);
/// How many clients of a port are remembered; a further one takes the place of the one that has been still the
/// longest.
const CLIENTS: usize = 1024;
/// How long to wait after a failure, as when all descriptors are in use.
const EXHAUSTED: Duration = Duration::from_millis(200);
/// Longer than any datagram.
const LONGEST: usize = 1 << 16;

/// A client, and the way to its endpoint.
#[derive(Debug)]
struct Flow {
    socket: Arc<UdpSocket>,
    stirred: Stirred,
    answers: JoinHandle<()>,
}

/// When something was sent last, either way.
#[derive(Clone, Debug)]
struct Stirred(Arc<Mutex<Instant>>);

// === impl Stirred ===

impl Stirred {
    fn now() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    fn stir(&self) {
        *self.lock() = Instant::now();
    }

    fn at(&self) -> Instant {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Instant> {
        // A point in time is never half written.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Flow ===

impl Flow {
    /// A way to where a client's datagrams go; answers come back to it by the listener.
    async fn open(
        listener: &Arc<UdpSocket>,
        client: SocketAddr,
        destination: &Destination,
    ) -> io::Result<Self> {
        let to = destination.socket().map_err(io::Error::other)?;
        let any = match to {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let socket = Arc::new(UdpSocket::bind(any).await?);
        socket.connect(to).await?;
        let stirred = Stirred::now();
        let answers = answer(
            Arc::clone(&socket),
            Arc::clone(listener),
            client,
            stirred.clone(),
        );
        Ok(Self {
            socket,
            stirred,
            answers: tokio::spawn(answers),
        })
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.answers.abort();
    }
}

/// Passes datagrams on for ever.
pub async fn pass_on(listener: UdpSocket, destination: watch::Receiver<Arc<Destination>>) {
    let listener = Arc::new(listener);
    let mut flows = HashMap::new();
    let mut buffer = vec![0; LONGEST];
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let received = tokio::select! {
            received = listener.recv_from(&mut buffer) => received,
            _ = look.tick() => {
                flows.retain(|_, flow: &mut Flow| flow.stirred.at().elapsed() < IDLE);
                continue;
            }
        };
        let (length, client) = match received {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!("take a datagram to a NodePort on a loopback address: {error}");
                sleep(EXHAUSTED).await;
                continue;
            }
        };
        let destination = Arc::clone(&destination.borrow());
        let sent = forward(
            &listener,
            &mut flows,
            client,
            &destination,
            &buffer[..length],
        )
        .await;
        if let Err(error) = sent {
            let service = &destination.service;
            tracing::debug!("Service {service}: pass a datagram of {client} on: {error}");
        }
    }
}

async fn forward(
    listener: &Arc<UdpSocket>,
    flows: &mut HashMap<SocketAddr, Flow>,
    client: SocketAddr,
    destination: &Destination,
    datagram: &[u8],
) -> io::Result<()> {
    if !flows.contains_key(&client) {
        if flows.len() >= CLIENTS {
            forget_the_stillest(flows);
        }
        match Flow::open(listener, client, destination).await {
            Ok(flow) => drop(flows.insert(client, flow)),
            Err(error) => {
                sleep(EXHAUSTED).await;
                return Err(error);
            }
        }
    }
    let Some(flow) = flows.get(&client) else {
        return Ok(());
    };
    flow.stirred.stir();
    flow.socket.send(datagram).await.map(drop)
}

fn forget_the_stillest(flows: &mut HashMap<SocketAddr, Flow>) {
    let stillest = flows.iter().min_by_key(|(_, flow)| flow.stirred.at());
    if let Some(client) = stillest.map(|(client, _)| *client) {
        flows.remove(&client);
    }
}

/// Passes answers on until the client is forgotten.
async fn answer(
    socket: Arc<UdpSocket>,
    listener: Arc<UdpSocket>,
    client: SocketAddr,
    stirred: Stirred,
) {
    loop {
        if let Err(error) = pass_back(&socket, &listener, client).await {
            // That nobody has taken a datagram is said here; there is no way to tell the client.
            tracing::debug!("answer {client}: {error}");
        } else {
            stirred.stir();
        }
    }
}

async fn pass_back(socket: &UdpSocket, listener: &UdpSocket, client: SocketAddr) -> io::Result<()> {
    socket.readable().await?;
    // Only for as long as it is needed: there can be many clients.
    let mut buffer = vec![0; LONGEST];
    match socket.try_recv(&mut buffer) {
        Ok(length) => listener.send_to(&buffer[..length], client).await.map(drop),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error),
    }
}
