//! The servers at Services' `healthCheckNodePort`, which load balancers ask whether to send to this node
//! (service-proxy F29).

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{
        StatusCode,
        header::{CONTENT_TYPE, HeaderName},
    },
    response::{IntoResponse, Response},
};
use kernel::{Family, route};
use serde::Serialize;
use serde_json::ser::PrettyFormatter;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use super::{
    Events, Happening,
    health::{Health, Moment},
    http::{NO_SNIFFING, status},
};
use crate::{
    listener::{Listener, Listening, listen},
    model::ObjectName,
    plan::{HealthCheck, nftables::NodePortAddresses},
};

/// How long to wait before another attempt to listen.
const RETRY: Duration = Duration::from_secs(5);
/// How long those who are being answered may take when a port is closed.
const GRACE: Duration = Duration::from_millis(500);
/// How load balancers of some clouds weigh the nodes.
const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");

/// Something that the servers are told.
#[derive(Debug)]
enum Wanted {
    /// What a Service wants.
    Check(ObjectName, Option<HealthCheck>),
    /// Where checks are served.
    Addresses(Family, NodePortAddresses),
}

/// Tells the servers what Services want.
#[derive(Debug)]
pub struct CheckPorts {
    wanted: mpsc::UnboundedSender<Wanted>,
    /// The Services that want something: nearly none does.
    checked: BTreeSet<ObjectName>,
}

/// The servers.
#[derive(Debug)]
pub struct Servers {
    wanted: mpsc::UnboundedReceiver<Wanted>,
    health: Arc<Health>,
    addresses: BTreeMap<Family, NodePortAddresses>,
    checks: BTreeMap<ObjectName, HealthCheck>,
    listening: Listening<Server>,
    events: Events,
}

/// Where a Service's check is served.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    service: ObjectName,
    family: Family,
    address: SocketAddr,
}

/// A server that listens.
#[derive(Debug)]
struct Server {
    endpoints: Arc<AtomicUsize>,
    close: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// What a server has to know.
#[derive(Debug)]
struct Told {
    endpoints: usize,
    health: Arc<Health>,
}

/// What a server tells about.
#[derive(Clone, Debug)]
struct Subject {
    service: ObjectName,
    endpoints: Arc<AtomicUsize>,
    health: Arc<Health>,
}

/// What is answered, in kube-proxy's form.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    service: Name<'a>,
    local_endpoints: usize,
    service_proxy_healthy: bool,
}

#[derive(Debug, Serialize)]
struct Name<'a> {
    namespace: &'a str,
    name: &'a str,
}

// === impl CheckPorts ===

impl CheckPorts {
    /// A way to tell the servers, and the servers: at those of the node's addresses where NodePorts are
    /// served.
    pub fn new(
        health: Arc<Health>,
        addresses: impl IntoIterator<Item = (Family, NodePortAddresses)>,
        events: Events,
    ) -> (Self, Servers) {
        let (sender, wanted) = mpsc::unbounded_channel();
        let servers = Servers {
            wanted,
            health,
            addresses: addresses.into_iter().collect(),
            checks: BTreeMap::new(),
            listening: Listening::default(),
            events,
        };
        let ports = Self {
            wanted: sender,
            checked: BTreeSet::new(),
        };
        (ports, servers)
    }

    /// What a Service wants now.
    pub fn set(&mut self, service: &ObjectName, check: Option<HealthCheck>) {
        let news = match &check {
            Some(_) => {
                self.checked.insert(service.clone());
                true
            }
            None => self.checked.remove(service),
        };
        if news {
            self.send(Wanted::Check(service.clone(), check));
        }
    }

    /// Where NodePorts of a family are served now.
    pub fn set_addresses(&self, family: Family, addresses: NodePortAddresses) {
        self.send(Wanted::Addresses(family, addresses));
    }

    fn send(&self, wanted: Wanted) {
        if self.wanted.send(wanted).is_err() {
            tracing::error!(
                "the thread of the healthCheckNodePorts has ended; restart the program"
            );
        }
    }
}

// === impl Servers ===

impl Servers {
    /// Serves until nobody can want anything any more.
    pub async fn run(mut self) {
        loop {
            let wanted = tokio::time::timeout(RETRY, self.wanted.recv()).await;
            match wanted {
                Ok(None) => return,
                Ok(Some(first)) => {
                    self.take(first);
                    while let Ok(next) = self.wanted.try_recv() {
                        self.take(next);
                    }
                }
                // An address may be free by now, or new.
                Err(_) if self.checks.is_empty() => continue,
                Err(_) => {}
            }
            self.follow().await;
        }
    }

    fn take(&mut self, wanted: Wanted) {
        match wanted {
            Wanted::Check(service, Some(check)) => drop(self.checks.insert(service, check)),
            Wanted::Check(service, None) => drop(self.checks.remove(&service)),
            Wanted::Addresses(family, addresses) => {
                self.addresses.insert(family, addresses);
            }
        }
    }

    /// Opens, closes and updates what has to be.
    async fn follow(&mut self) {
        let wanted = self.places();
        let events = &self.events;
        let refused = |place: &Place, _: &Told, error| cannot_serve(place, &error, events);
        self.listening.follow(wanted, refused).await;
    }

    /// Where what should be told.
    fn places(&self) -> BTreeMap<Place, Told> {
        if self.checks.is_empty() {
            return BTreeMap::new();
        }
        let addresses: BTreeMap<Family, Vec<IpAddr>> = self
            .addresses
            .iter()
            .map(|(family, served)| (*family, served_addresses(*family, served)))
            .collect();
        let mut places = BTreeMap::new();
        for (service, check) in &self.checks {
            for (family, endpoints) in &check.endpoints {
                for address in addresses.get(family).into_iter().flatten() {
                    let place = Place {
                        service: service.clone(),
                        family: *family,
                        address: SocketAddr::new(*address, check.port),
                    };
                    let told = Told {
                        endpoints: *endpoints,
                        health: Arc::clone(&self.health),
                    };
                    places.insert(place, told);
                }
            }
        }
        places
    }
}

// === impl Server ===

impl Listener for Server {
    type Place = Place;
    type Subject = Told;

    fn open(place: &Place, told: &Told) -> io::Result<Self> {
        let listener = listen(place.address)?;
        let endpoints = Arc::new(AtomicUsize::new(told.endpoints));
        let (close, closed) = oneshot::channel::<()>();
        let name = place.service.clone();
        let router = Router::new().fallback(answer).with_state(Subject {
            service: name.clone(),
            endpoints: Arc::clone(&endpoints),
            health: Arc::clone(&told.health),
        });
        let task = tokio::spawn(async move {
            let closed = async { drop(closed.await) };
            let served = axum::serve(listener, router).with_graceful_shutdown(closed);
            if let Err(error) = served.await {
                tracing::error!("serve the healthCheckNodePort of {name}: {error}");
            }
        });
        Ok(Self {
            endpoints,
            close,
            task,
        })
    }

    fn update(&self, told: Told) {
        self.endpoints.store(told.endpoints, Ordering::Relaxed);
    }

    async fn close(mut self, _: &Place) {
        drop(self.close);
        if tokio::time::timeout(GRACE, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

fn cannot_serve(place: &Place, error: &io::Error, events: &Events) {
    let Place {
        service, address, ..
    } = place;
    tracing::error!(
        "Service {service}: can't serve its healthCheckNodePort at {address}: {error}; load balancers take the \
         node for unfit; tried again every 5 s"
    );
    let note = format!("can't serve the healthCheckNodePort at {address}: {error}");
    events.tell(Happening::NoHealthCheck(service.clone(), note));
}

/// The addresses of the node where checks are served: all at once, or those of some networks.
fn served_addresses(family: Family, served: &NodePortAddresses) -> Vec<IpAddr> {
    let networks = match (served, family) {
        (NodePortAddresses::All | NodePortAddresses::Primary, Family::V4) => {
            return vec![Ipv4Addr::UNSPECIFIED.into()];
        }
        (NodePortAddresses::All | NodePortAddresses::Primary, Family::V6) => {
            return vec![Ipv6Addr::UNSPECIFIED.into()];
        }
        (NodePortAddresses::In(networks), _) => networks,
    };
    let addresses = route::Handle::open().and_then(|mut handle| handle.addresses(None));
    match addresses {
        Ok(addresses) => addresses
            .iter()
            .map(|address| address.address.ip())
            .filter(|address| networks.iter().any(|network| network.contains(*address)))
            .collect(),
        Err(error) => {
            tracing::error!(
                "find where to serve healthCheckNodePorts: {error}; tried again in 5 s"
            );
            Vec::new()
        }
    }
}

async fn answer(State(subject): State<Subject>) -> Response {
    let endpoints = subject.endpoints.load(Ordering::Relaxed);
    let healthy = subject.health.is_healthy(Moment::now());
    let body = Body {
        service: Name {
            namespace: &subject.service.namespace,
            name: &subject.service.name,
        },
        local_endpoints: endpoints,
        service_proxy_healthy: healthy,
    };
    let headers = [
        (CONTENT_TYPE, "application/json".to_owned()),
        (NO_SNIFFING.0, NO_SNIFFING.1.to_owned()),
        (WEIGHT, endpoints.to_string()),
    ];
    match text(&body) {
        Ok(text) => (status(endpoints > 0 && healthy), headers, text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// JSON as kube-proxy writes it: over several lines, by tabs.
fn text(body: &Body<'_>) -> serde_json::Result<Vec<u8>> {
    let mut text = Vec::new();
    let formatter = PrettyFormatter::with_indent(b"\t");
    body.serialize(&mut serde_json::Serializer::with_formatter(
        &mut text, formatter,
    ))?;
    Ok(text)
}
