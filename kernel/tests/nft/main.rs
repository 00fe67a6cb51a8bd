//! nftables against the real kernel, and against nft(8) reading what we wrote.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod convergence;
mod layout;
mod refusals;
mod sandbox;
mod tables;
