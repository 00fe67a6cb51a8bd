//! What the agent tells: its log, its health, and `subnet.env`.

mod check;
mod health;
mod log;
mod metrics;
mod notices;
mod status;
mod status_socket;
mod subnet_file;

pub use check::{Check, PeerCheck};
pub use health::{CannotListen, Health};
pub use log::start_log;
pub use metrics::Metrics;
pub use notices::Notices;
pub use status::{PeerStatus, Status, StatusTable};
pub use status_socket::{NoStatus, StatusRequest, ask_status, serve_status, status_socket};
pub(crate) use subnet_file::write_atomically;
pub use subnet_file::{CannotWrite, previous_subnet_file, previous_subnets, write_subnet_file};

/// Where the agent's state is told.
#[derive(Debug)]
pub struct Told {
    /// To who asks whether it works.
    pub health: Health,
    /// To who asks how.
    pub metrics: Metrics,
    /// To who asks what stands in the kernel.
    pub questions: tokio::sync::mpsc::Receiver<StatusRequest>,
}
