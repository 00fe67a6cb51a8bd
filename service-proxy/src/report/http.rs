//! The servers that others ask for health and metrics (service-proxy F30 to F33).
//!
//! They have a thread of their own, so that they answer while the kernel is worked on too.

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread,
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{
        StatusCode,
        header::{CONTENT_TYPE, HeaderName, X_CONTENT_TYPE_OPTIONS},
    },
    response::{IntoResponse, Response},
    routing::any,
};

use tokio::sync::watch;

use super::{
    Events, Happening,
    check_ports::Servers,
    health::{Health, Moment, Verdict},
    metrics::{MEDIA_TYPE, Metrics, Probe},
};
use crate::{configuration::Configuration, localhost::Listeners};

/// How long to wait before another attempt to listen (as kube-proxy does).
const RETRY: Duration = Duration::from_secs(5);

/// Says that the body is of the type that the header says.
pub(super) const NO_SNIFFING: (HeaderName, &str) = (X_CONTENT_TYPE_OPTIONS, "nosniff");

/// Where to listen; `None`: not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bindings {
    /// For `/healthz` and `/livez`.
    pub healthz: Option<SocketAddr>,
    /// For `/metrics` and `/proxyMode`.
    pub metrics: Option<SocketAddr>,
    /// Whether an address that can't be had is a reason to end (F33).
    pub hard_fail: bool,
}

/// What the servers tell about.
#[derive(Clone, Debug)]
pub struct Subject {
    /// For `/healthz` and `/livez`.
    pub health: Arc<Health>,
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// For `/configz` and `/proxyMode`: what is in force.
    pub configuration: watch::Receiver<Configuration>,
}

/// Why there are no servers.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address can't be had.
    #[error(
        "can't serve {server} at {address} ({}): {cause}; with --bind-address-hard-fail=false this would be \
         tried again every 5 s",
        server.option()
    )]
    Listen {
        /// Whose address it is.
        server: Server,
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        cause: io::Error,
    },
    /// There is no thread for them.
    #[error("start the thread of the health and metrics servers: {0}")]
    Thread(#[from] io::Error),
}

/// A server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// That of `/healthz` and `/livez`.
    Health,
    /// That of `/metrics`.
    Metrics,
}

/// A server's address, and its listener if there is one already.
struct Door {
    server: Server,
    address: SocketAddr,
    listener: Option<TcpListener>,
}

// === impl Server ===

impl Server {
    const fn option(self) -> &'static str {
        match self {
            Self::Health => "--healthz-bind-address",
            Self::Metrics => "--metrics-bind-address",
        }
    }

    fn router(self, subject: Subject) -> Router {
        let router = match self {
            Self::Health => Router::new()
                .route("/healthz", any(healthz))
                .route("/livez", any(livez)),
            Self::Metrics => Router::new()
                .route("/healthz", any(|| async { "ok" }))
                .route("/proxyMode", any(proxy_mode))
                .route("/configz", any(configz))
                .route("/metrics", any(metrics)),
        };
        router.with_state(subject)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Health => "/healthz and /livez",
            Self::Metrics => "/metrics",
        })
    }
}

// === impl Door ===

impl Door {
    /// Serves for ever, as soon as the address can be had.
    async fn serve(mut self, subject: Subject) {
        loop {
            let listener = self.listener.take().map_or_else(|| bind(self.address), Ok);
            let served = match listener.and_then(tokio::net::TcpListener::from_std) {
                Ok(listener) => axum::serve(listener, self.server.router(subject.clone())).await,
                Err(error) => Err(error),
            };
            if let Err(error) = served {
                tracing::debug!("serve {} at {}: {error}", self.server, self.address);
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// Starts the servers, those at health check node ports and on loopback addresses too; they end with the process.
///
/// # Errors
/// If there is no thread for them, or an address can't be had where that has to be.
pub fn start(
    bindings: &Bindings,
    subject: &Subject,
    checks: Servers,
    loopback: Listeners,
    events: &Events,
) -> Result<(), Error> {
    let wanted = [
        (Server::Health, bindings.healthz),
        (Server::Metrics, bindings.metrics),
    ];
    let doors: Vec<_> = wanted
        .into_iter()
        .filter_map(|(server, address)| Some((server, address?)))
        .map(|(server, address)| open(server, address, bindings.hard_fail, events))
        .collect::<Result<_, _>>()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let subject = subject.clone();
    thread::Builder::new()
        .name("servers".to_owned())
        .spawn(move || {
            let _entered = runtime.enter();
            let servers = doors.into_iter().map(|door| door.serve(subject.clone()));
            let servers: Vec<_> = servers
                .map(|server| runtime.spawn(server))
                .chain([runtime.spawn(checks.run()), runtime.spawn(loopback.run())])
                .collect();
            runtime.block_on(async {
                for server in servers {
                    if let Err(error) = server.await {
                        tracing::error!("a server has ended: {error}");
                    }
                }
            });
        })?;
    Ok(())
}

fn open(
    server: Server,
    address: SocketAddr,
    hard_fail: bool,
    events: &Events,
) -> Result<Door, Error> {
    let listener = match bind(address) {
        Ok(listener) => Some(listener),
        Err(cause) if hard_fail => {
            return Err(Error::Listen {
                server,
                address,
                cause,
            });
        }
        Err(cause) => {
            tracing::error!(
                "can't serve {server} at {address} ({}): {cause}; tried again every 5 s",
                server.option()
            );
            if server == Server::Health {
                let note = format!("can't serve {server} at {address}: {cause}");
                events.tell(Happening::NoHealth(note));
            }
            None
        }
    };
    Ok(Door {
        server,
        address,
        listener,
    })
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

async fn healthz(State(subject): State<Subject>) -> Response {
    let verdict = subject.health.healthz(Moment::now());
    answer(&subject, Probe::Healthz, &verdict)
}

async fn livez(State(subject): State<Subject>) -> Response {
    let verdict = subject.health.livez(Moment::now());
    answer(&subject, Probe::Livez, &verdict)
}

fn answer(subject: &Subject, probe: Probe, verdict: &Verdict) -> Response {
    subject.metrics.probed(probe, verdict.healthy);
    let json = (CONTENT_TYPE, "application/json");
    match serde_json::to_string(verdict) {
        Ok(body) => (status(verdict.healthy), [json, NO_SNIFFING], body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// The status for what is well or not.
pub(super) const fn status(healthy: bool) -> StatusCode {
    if healthy {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

async fn proxy_mode(State(subject): State<Subject>) -> Response {
    let plain = (CONTENT_TYPE, "text/plain; charset=utf-8");
    let mode = subject.configuration.borrow().mode.clone();
    ([plain, NO_SNIFFING], mode).into_response()
}

/// The configuration under the name of its API group, as kube-proxy has it.
async fn configz(State(subject): State<Subject>) -> Response {
    let in_force = subject.configuration.borrow().in_force();
    let json = (CONTENT_TYPE, "application/json");
    let body = serde_json::json!({"kubeproxy.config.k8s.io": in_force}).to_string();
    ([json, NO_SNIFFING], body).into_response()
}

async fn metrics(State(subject): State<Subject>) -> Response {
    match subject.metrics.text() {
        Ok(text) => ([(CONTENT_TYPE, MEDIA_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
