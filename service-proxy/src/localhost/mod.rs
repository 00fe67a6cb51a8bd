//! NodePorts on the loopback addresses, 127.0.0.1 and ::1 (service-proxy F17; KEP-6032).
//!
//! The kernel can't translate connections from a loopback address without `route_localnet`, which opens
//! services on 127.0.0.1 to the network (CVE-2020-8558), and for IPv6 not at all. So this program listens
//! there itself, and [`relay`]s connections to the NodePort on one of the node's other addresses, and [`datagrams`].

mod datagrams;
mod relay;

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, mpsc::RecvTimeoutError},
    time::Duration,
};

use kernel::Family;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use crate::{
    listener::{Listener, Listening, listen, listen_for_datagrams},
    model::ObjectName,
    plan::{LoopbackPort, Transport},
};

pub use self::relay::Elsewhere;
use self::relay::{Destination, accept};

/// How long to wait before another attempt to listen.
const RETRY: Duration = Duration::from_secs(5);
/// How long what is wanted of the listeners may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The ports of a Service, each with where it leads.
type Ports = BTreeMap<LoopbackPort, SocketAddr>;

/// Its end tells those who wait for it.
type Settled = std::sync::mpsc::Sender<Infallible>;

/// Something that the listeners are told.
#[derive(Debug)]
enum Wanted {
    /// What a Service wants.
    Ports(ObjectName, Ports),
    /// Where else NodePorts are served.
    Elsewhere(Family, Elsewhere),
    /// The families whose loopback address is served.
    Families(BTreeSet<Family>),
    /// To be dropped when all that was wanted before is done.
    Settled(Settled),
}

/// Tells the listeners what Services want.
#[derive(Debug)]
pub struct LoopbackPorts {
    wanted: mpsc::UnboundedSender<Wanted>,
    /// The Services that have ports.
    served: BTreeSet<ObjectName>,
    families: BTreeSet<Family>,
}

/// The listeners.
#[derive(Debug)]
pub struct Listeners {
    wanted: mpsc::UnboundedReceiver<Wanted>,
    families: BTreeSet<Family>,
    elsewhere: BTreeMap<Family, Elsewhere>,
    ports: BTreeMap<ObjectName, Ports>,
    listening: Listening<Relay>,
    /// Dropped when all is done.
    waiting: Vec<Settled>,
}

/// A port that is listened on.
#[derive(Debug)]
struct Relay {
    destination: watch::Sender<Arc<Destination>>,
    task: JoinHandle<()>,
}

// === impl LoopbackPorts ===

impl LoopbackPorts {
    /// A way to tell the listeners, and the listeners: at the loopback addresses of some families, with where else
    /// NodePorts are served.
    pub fn new(
        families: BTreeSet<Family>,
        elsewhere: impl IntoIterator<Item = (Family, Elsewhere)>,
    ) -> (Self, Listeners) {
        let (sender, wanted) = mpsc::unbounded_channel();
        let listeners = Listeners {
            wanted,
            families: families.clone(),
            elsewhere: elsewhere.into_iter().collect(),
            ports: BTreeMap::new(),
            listening: Listening::default(),
            waiting: Vec::new(),
        };
        let ports = Self {
            wanted: sender,
            served: BTreeSet::new(),
            families,
        };
        (ports, listeners)
    }

    /// What a Service wants now.
    pub fn set(&mut self, service: &ObjectName, ports: Ports) {
        let news = if ports.is_empty() {
            self.served.remove(service)
        } else {
            self.served.insert(service.clone());
            true
        };
        if news {
            self.send(Wanted::Ports(service.clone(), ports));
        }
    }

    /// Where NodePorts of a family are served beside the loopback address.
    pub fn set_elsewhere(&self, family: Family, elsewhere: Elsewhere) {
        self.send(Wanted::Elsewhere(family, elsewhere));
    }

    /// The families whose loopback address is served from now on.
    pub fn set_families(&mut self, families: &BTreeSet<Family>) {
        if self.families != *families {
            self.families.clone_from(families);
            self.send(Wanted::Families(families.clone()));
        }
    }

    /// Waits until the listeners are as they were wanted last, but not for long.
    pub fn settle(&self) {
        let (sender, settled) = std::sync::mpsc::channel();
        self.send(Wanted::Settled(sender));
        if let Err(RecvTimeoutError::Timeout) = settled.recv_timeout(PATIENCE) {
            tracing::warn!("the listeners on loopback addresses are slow; goes on without them");
        }
    }

    fn send(&self, wanted: Wanted) {
        if self.wanted.send(wanted).is_err() {
            tracing::error!("the thread of the servers has ended; restart the program");
        }
    }
}

// === impl Listeners ===

impl Listeners {
    /// Serves until nobody can want anything any more.
    pub async fn run(mut self) {
        loop {
            let wanted = self.wanted.recv();
            let wanted = if self.listening.is_complete() {
                Ok(wanted.await)
            } else {
                tokio::time::timeout(RETRY, wanted).await
            };
            match wanted {
                Ok(None) => return,
                Ok(Some(first)) => {
                    self.take(first);
                    while let Ok(next) = self.wanted.try_recv() {
                        self.take(next);
                    }
                }
                // A port may be free by now.
                Err(_) => {}
            }
            self.follow().await;
            self.waiting.clear();
        }
    }

    fn take(&mut self, wanted: Wanted) {
        match wanted {
            Wanted::Ports(service, ports) if ports.is_empty() => drop(self.ports.remove(&service)),
            Wanted::Ports(service, ports) => drop(self.ports.insert(service, ports)),
            Wanted::Elsewhere(family, elsewhere) => {
                self.elsewhere.insert(family, elsewhere);
            }
            Wanted::Families(families) => self.families = families,
            Wanted::Settled(sender) => self.waiting.push(sender),
        }
    }

    /// Opens, closes and updates what has to be. Connections that are open stay.
    async fn follow(&mut self) {
        let wanted = self.destinations();
        self.listening.follow(wanted, cannot_serve).await;
    }

    /// Which ports lead where. Of Services with the same port the first by name has it, as in the kernel.
    fn destinations(&self) -> BTreeMap<LoopbackPort, Arc<Destination>> {
        let mut destinations = BTreeMap::new();
        let ports = self.ports.iter();
        for (service, (port, cluster_ip)) in
            ports.flat_map(|(service, ports)| ports.iter().map(move |port| (service, port)))
        {
            let LoopbackPort { family, number, .. } = *port;
            if !self.families.contains(&family) {
                continue;
            }
            destinations.entry(*port).or_insert_with(|| {
                Arc::new(Destination {
                    service: service.clone(),
                    family,
                    node_port: number,
                    elsewhere: self.elsewhere.get(&family).cloned().unwrap_or_default(),
                    cluster_ip: *cluster_ip,
                })
            });
        }
        destinations
    }
}

// === impl Listener for Relay ===

impl Listener for Relay {
    type Place = LoopbackPort;
    type Subject = Arc<Destination>;

    fn open(port: &LoopbackPort, destination: &Arc<Destination>) -> io::Result<Self> {
        let at = loopback(port);
        let (sender, receiver) = watch::channel(Arc::clone(destination));
        let task = match port.transport {
            Transport::Tcp => tokio::spawn(accept(listen(at)?, receiver)),
            Transport::Udp => tokio::spawn(datagrams::pass_on(listen_for_datagrams(at)?, receiver)),
        };
        Ok(Self {
            destination: sender,
            task,
        })
    }

    fn update(&self, destination: Arc<Destination>) {
        self.destination.send_replace(destination);
    }

    async fn close(self, port: &LoopbackPort) {
        self.task.abort();
        match self.task.await {
            Err(error) if error.is_panic() => {
                tracing::error!("serve NodePorts at {}: {error}", loopback(port));
            }
            _ => {}
        }
    }
}

fn cannot_serve(port: &LoopbackPort, destination: &Arc<Destination>, error: io::Error) {
    tracing::warn!(
        "Service {}: can't serve its nodePort at {} {}: {error}; its other addresses are served all the same; tried \
         again every 5 s",
        destination.service,
        port.transport,
        loopback(port)
    );
}

fn loopback(port: &LoopbackPort) -> SocketAddr {
    let address: IpAddr = match port.family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(address, port.number)
}
