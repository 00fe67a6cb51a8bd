//! The one netlink transport: a synchronous socket that belongs to the network namespace of the thread
//! that opened it.
//!
//! It moves bytes. What they mean is the business of [`crate::route`] and [`crate::nft`].

mod error;
mod message;
mod socket;

pub use error::{Error, Result};
pub use message::{Reply, Request};
pub(crate) use message::{align, array_at};
pub use socket::{Protocol, Socket};
