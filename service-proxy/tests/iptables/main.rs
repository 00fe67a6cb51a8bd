//! iptables mode: the texts, the convergence, and the real tables.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod convergence;
mod golden;
mod tables;
