//! What the agent tells: its log, its health, and `subnet.env`.

mod health;
mod log;
mod metrics;
mod notices;
mod subnet_file;

pub use health::{CannotListen, Health};
pub use log::start_log;
pub use metrics::Metrics;
pub use notices::Notices;
pub(crate) use subnet_file::write_atomically;
pub use subnet_file::{CannotWrite, previous_subnets, write_subnet_file};

/// Where the agent's state is told.
#[derive(Clone, Debug)]
pub struct Told {
    /// To who asks whether it works.
    pub health: Health,
    /// To who asks how.
    pub metrics: Metrics,
}
