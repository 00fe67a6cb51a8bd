//! nftables against the real kernel, and against nft(8) reading what we wrote.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod convergence;
mod families;
mod handle;
mod large;
mod layout;
mod listing;
mod refusals;
mod rules;
mod sandbox;
mod sessions;
mod tables;
