//! The service proxy: one daemon per node that makes a Service's addresses lead to its endpoints.
//!
//! The rooms, in the order that data goes through them: [`source`] (manifests on disk) → [`model`] (small
//! parsed types) → [`plan`] (pure: model to desired kernel state) → [`reconcile`] (desired against what
//! stands in the kernel) → [`report`] (what a person gets to see). [`daemon`] runs them as [`options`] say.

pub mod configuration;
pub mod daemon;
pub mod dataplane;
pub mod drift;
pub mod flows;
mod generation;
pub mod inspect;
mod listener;
pub mod localhost;
pub mod model;
pub mod options;
pub mod plan;
pub mod reconcile;
pub mod report;
pub mod source;
pub mod tuning;
