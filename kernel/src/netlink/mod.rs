//! The one netlink transport: a synchronous socket that belongs to the network namespace of the thread
//! that opened it.
//!
//! It moves bytes. What they mean is the business of [`crate::route`], [`crate::nft`] and their like.

pub(crate) mod attribute;
mod descriptor;
mod error;
mod handle;
mod message;
mod monitor;
mod socket;

pub(crate) use descriptor::set_int;
pub use error::{Error, Result};
pub(crate) use handle::opens;
pub use message::{Reply, Request};
pub(crate) use message::{align, array_at};
pub use monitor::{Drained, Monitor};
pub(crate) use socket::open;
pub use socket::{Protocol, Socket};
