//! `/healthz`, `/readyz` (spec 1.3) and `/metrics`, and readiness told to systemd.

use std::{io, net::SocketAddr, thread};

use super::Metrics;
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use sd_notify::NotifyState;
use tokio::{net::TcpListener, sync::watch};

/// The text format with a type for each metric (openmetrics.io).
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether the agent is ready: the lease is held, and the kernel and `subnet.env` agree with it.
#[derive(Clone, Debug, Default)]
pub struct Health {
    ready: watch::Sender<bool>,
}

/// The address for `/healthz` can't be used.
#[derive(Debug, thiserror::Error)]
#[error("can't serve /healthz at {address} (--healthz-ip, --healthz-port): {cause}")]
pub struct CannotListen {
    address: SocketAddr,
    #[source]
    cause: io::Error,
}

// === impl Health ===

impl Health {
    /// The agent is ready; the first time it is, systemd is told (sd_notify(3)).
    pub fn set_ready(&self) {
        if self.ready.send_replace(true) {
            return;
        }
        tracing::info!("ready");
        // A socket that nobody reads blocks for ever once it is full.
        let telling = thread::Builder::new().spawn(tell_systemd).map(drop);
        warn_of(telling);
    }

    /// Whether it is.
    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// Waits until it is.
    pub async fn ready(&self) {
        let mut ready = self.ready.subscribe();
        // The sender is this one.
        if ready.wait_for(|ready| *ready).await.is_err() {
            std::future::pending().await
        }
    }

    /// Takes hold of an address to serve at.
    pub async fn listen(address: SocketAddr) -> Result<TcpListener, CannotListen> {
        TcpListener::bind(address)
            .await
            .map_err(|cause| CannotListen { address, cause })
    }

    /// Serves for ever, the metrics as well.
    pub async fn serve(self, listener: TcpListener, metrics: Metrics) -> io::Result<()> {
        let router = Router::new()
            .route("/healthz", get(|| async { "flanneld is running" }))
            .route("/readyz", get(readyz))
            .with_state(self)
            .route("/metrics", get(serve_metrics).with_state(metrics));
        axum::serve(listener, router).await
    }
}

fn tell_systemd() {
    warn_of(sd_notify::notify(&[NotifyState::Ready]));
}

fn warn_of(telling: io::Result<()>) {
    if let Err(error) = telling {
        tracing::warn!("can't tell systemd that the agent is ready: {error}");
    }
}

async fn serve_metrics(State(metrics): State<Metrics>) -> Response {
    match metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn readyz(State(health): State<Health>) -> (StatusCode, &'static str) {
    if health.is_ready() {
        (StatusCode::OK, "flanneld is ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "flanneld is not ready yet")
    }
}
