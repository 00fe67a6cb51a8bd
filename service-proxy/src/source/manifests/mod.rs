//! Services and EndpointSlices from a directory of ordinary Kubernetes manifests.
//!
//! Every `*.yaml`, `*.yml` and `*.json` in the directory counts, names with a leading dot do not.
//! [`Manifests`] follows the directory, [`parse`] reads what a file holds.

mod defaults;
mod directory;
mod document;
mod file;
mod settle;
mod watch;

pub use directory::{Directory, Outcome, Unreadable};
pub use document::{Format, Parsed, Problem, parse};
pub use watch::{Manifests, StartError};
