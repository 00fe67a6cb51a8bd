//! Listening, not listening, and listening again.
//!
//! A server that stops loses its runtime, and with it every connection, as a killed process would. Its
//! listening socket is shut down, which makes the kernel refuse connections, but stays bound: it keeps its
//! port, and the network namespace that it was opened in.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::AsRawFd,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use axum::{Router, serve::Listener};
use nix::{
    errno::Errno,
    sys::socket::{self, Backlog, Shutdown, SockaddrStorage},
};
use tokio::{net::TcpStream, sync::mpsc as commands};

use super::{State, http};

/// How long the queue of connections that are not yet accepted may be.
const BACKLOG: i32 = 1024;

/// How long to wait before trying again when a connection can't be accepted.
const PAUSE: Duration = Duration::from_millis(10);

/// What the server's thread is told.
#[derive(Debug)]
pub(super) enum Command {
    Stop,
    Start,
    Away(Duration),
    End,
}

/// A command, and whom to tell when it is carried out.
pub(super) type Order = (Command, mpsc::Sender<Result<()>>);

/// Commands a server's thread.
#[derive(Debug)]
pub struct Life(commands::UnboundedSender<Order>);

/// The thread that serves.
#[derive(Debug)]
pub struct Running {
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Accepts connections, apart from those that tests want refused.
struct Accepting {
    listener: tokio::net::TcpListener,
    state: Arc<State>,
}

// === impl Life ===

impl Life {
    /// A way to command a thread that is yet to be started.
    pub(super) fn new() -> (Self, commands::UnboundedReceiver<Order>) {
        let (sender, receiver) = commands::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Ends all connections and refuses new ones.
    pub(super) fn stop(&self) -> Result<()> {
        self.command(Command::Stop)
    }

    /// Listens again.
    pub(super) fn start(&self) -> Result<()> {
        self.command(Command::Start)
    }

    /// Stops, and starts after a time, without waiting for either.
    pub(super) fn go_away(&self, time: Duration) {
        let (told, _) = mpsc::channel();
        // A thread that has ended is away for good.
        self.0.send((Command::Away(time), told)).ok();
    }

    fn end(&self) -> Result<()> {
        self.command(Command::End)
    }

    fn command(&self, command: Command) -> Result<()> {
        let (told, outcome) = mpsc::channel();
        let gone = "the API server's thread has ended";
        self.0.send((command, told)).ok().context(gone)?;
        outcome.recv().context(gone)?
    }
}

// === impl Running ===

impl Running {
    /// Starts the thread; it listens when this returns.
    pub(super) fn start(
        listener: TcpListener,
        state: Arc<State>,
        orders: commands::UnboundedReceiver<Order>,
    ) -> Result<Self> {
        listener.set_nonblocking(true)?;
        let thread = thread::Builder::new()
            .name("apiserver".into())
            .spawn(move || live(&listener, &state, orders))
            .context("start the API server's thread")?;
        Ok(Self {
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Ends the thread and all connections.
    pub(super) fn end(&self, life: &Life) {
        self.join(|| life.end().is_ok());
    }

    /// Waits for the thread to end by itself, which only a failure makes it do.
    pub(super) fn wait(&self) {
        self.join(|| true);
    }

    /// Waits for the thread if it ends.
    fn join(&self, ends: impl FnOnce() -> bool) {
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread
            && ends()
            && thread.join().is_err()
        {
            eprintln!("the API server's thread panicked");
        }
    }
}

// === impl Accepting ===

impl Listener for Accepting {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            match self.listener.accept().await {
                Ok(_) if self.state.faults.refuses_connection() => {}
                // A watch's events are small, and each is to be sent when it happens.
                Ok((stream, peer)) => match stream.set_nodelay(true) {
                    Ok(()) => return (stream, peer),
                    Err(error) => eprintln!("connection from {peer}: {error}"),
                },
                Err(error) => {
                    eprintln!("accept a connection: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

fn live(
    listener: &TcpListener,
    state: &Arc<State>,
    mut orders: commands::UnboundedReceiver<Order>,
) {
    let router = http::router(Arc::clone(state));
    loop {
        let order = match serve_until_ordered(listener, state, &router, &mut orders) {
            Ok(order) => order,
            Err(error) => {
                eprintln!("API server: {error:#}");
                return;
            }
        };
        let Some(((command, told), stopped)) = order else {
            return;
        };
        match command {
            Command::Away(time) => {
                thread::sleep(time);
                report(&told, stopped.and_then(|()| listen(listener)));
                continue;
            }
            Command::End => return report(&told, stopped),
            Command::Stop | Command::Start => report(&told, stopped),
        }
        if !stay_stopped(listener, &mut orders) {
            return;
        }
    }
}

/// Waits for the order to start; false means to end.
fn stay_stopped(listener: &TcpListener, orders: &mut commands::UnboundedReceiver<Order>) -> bool {
    while let Some((command, told)) = orders.blocking_recv() {
        match command {
            Command::Start => {
                report(&told, listen(listener));
                return true;
            }
            Command::End => {
                report(&told, Ok(()));
                return false;
            }
            Command::Stop => report(&told, Ok(())),
            Command::Away(_) => report(&told, Err(anyhow::anyhow!("the server is stopped"))),
        }
    }
    false
}

/// Serves until there is an order to do otherwise: answers it, and whether connections are refused now.
/// All connections have ended when this returns.
fn serve_until_ordered(
    listener: &TcpListener,
    state: &Arc<State>,
    router: &Router,
    orders: &mut commands::UnboundedReceiver<Order>,
) -> Result<Option<(Order, Result<()>)>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("apiserver")
        .enable_all()
        .build()
        .context("start a runtime")?;
    let order = runtime.block_on(async {
        let accepting = Accepting {
            listener: tokio::net::TcpListener::from_std(listener.try_clone()?)?,
            state: Arc::clone(state),
        };
        let service = router.clone();
        let serving = axum::serve(accepting, service);
        tokio::select! {
            ended = async { serving.await } => {
                ended.context("serve HTTP")?;
                bail!("serving ended by itself");
            }
            order = next_order(orders) => anyhow::Ok(order),
        }
    })?;
    // First this, then the end of the runtime: who sees a connection end is not to get another.
    Ok(order.map(|order| (order, refuse(listener))))
}

/// The next order that is not fulfilled already.
async fn next_order(orders: &mut commands::UnboundedReceiver<Order>) -> Option<Order> {
    loop {
        match orders.recv().await? {
            (Command::Start, told) => report(&told, Ok(())),
            order => return Some(order),
        }
    }
}

/// Makes the kernel refuse connections, but keeps the port.
fn refuse(listener: &TcpListener) -> Result<()> {
    let address = listener.local_addr()?;
    socket::shutdown(listener.as_raw_fd(), Shutdown::Read).context("stop listening")?;
    // A port that the kernel chose is given back now, so that it has to be asked for by number; one that
    // was asked for is kept, which the kernel tells by refusing to bind the socket again.
    match socket::bind(listener.as_raw_fd(), &SockaddrStorage::from(address)) {
        Ok(()) | Err(Errno::EINVAL) => Ok(()),
        Err(errno) => Err(errno).with_context(|| format!("keep {address}")),
    }
}

fn listen(listener: &TcpListener) -> Result<()> {
    socket::listen(listener, Backlog::new(BACKLOG)?).context("listen again")
}

fn report(told: &mpsc::Sender<Result<()>>, outcome: Result<()>) {
    // Who does not wait for the outcome need not be told.
    told.send(outcome).ok();
}
