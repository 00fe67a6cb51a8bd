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
pub use status_socket::{NoStatus, StatusRequest, ask_status, serve_status};
pub(crate) use subnet_file::write_atomically;
pub use subnet_file::{CannotWrite, previous_subnets, write_subnet_file};
