//! The agent against a real etcd and a real kernel, each test in network namespaces of its own.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod advertisements;
mod backends;
mod cleanup;
mod configuration;
mod crowd;
mod faults;
mod flannel;
mod healing;
mod history;
mod increments;
mod interface;
mod kube_mode;
mod kube_source;
mod lab;
mod leases;
mod masquerade;
mod nodes;
mod outages;
mod ping;
mod program;
mod seeing;
mod start;
mod tls;
mod tunnels;
