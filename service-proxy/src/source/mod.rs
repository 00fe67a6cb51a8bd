//! Where Services and EndpointSlices come from.
//!
//! A source answers with [`Change`](crate::model::Change)s: the first batch is everything there is, and
//! nothing is programmed before it is there (F7).

pub mod decode;
pub mod manifests;

pub use manifests::Manifests;
