//! `/healthz` and `/readyz` (spec 1.3), and readiness told to systemd.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use sd_notify::NotifyState;
use tokio::net::TcpListener;

/// Whether the agent is ready: the lease is held, and the kernel and `subnet.env` agree with it.
#[derive(Clone, Debug, Default)]
pub struct Health {
    ready: Arc<AtomicBool>,
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
        if self.ready.swap(true, Ordering::Relaxed) {
            return;
        }
        tracing::info!("ready");
        if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
            tracing::warn!("can't tell systemd that the agent is ready: {error}");
        }
    }

    /// Takes hold of an address to serve at.
    pub async fn listen(address: SocketAddr) -> Result<TcpListener, CannotListen> {
        TcpListener::bind(address)
            .await
            .map_err(|cause| CannotListen { address, cause })
    }

    /// Serves for ever.
    pub async fn serve(self, listener: TcpListener) -> io::Result<()> {
        let router = Router::new()
            .route("/healthz", get(|| async { "flanneld is running" }))
            .route("/readyz", get(readyz))
            .with_state(self);
        axum::serve(listener, router).await
    }
}

async fn readyz(State(health): State<Health>) -> (StatusCode, &'static str) {
    if health.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "flanneld is ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "flanneld is not ready yet")
    }
}
