//! What others get to see: lines in the log, health, metrics.

mod accounting;
pub mod check_ports;
pub mod events;
pub mod health;
pub mod http;
mod log;
pub mod metrics;
mod process;
mod progress;

pub use events::{Events, Happening};
pub use log::{
    Occasion, forgot, no_primary_address, not_reloaded, not_switched, not_watched, others_remain,
    reloaded, synced, waits, warnings,
};
pub use progress::Progress;
