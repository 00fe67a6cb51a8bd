//! Typed access to the Linux kernel's networking, shared by Tweed's programs.
//!
//! One folder per kernel interface. Nothing here knows of Kubernetes, etcd or CNI: callers say what
//! should stand in the kernel, and read what does. Everything is synchronous; an async program calls
//! it from its own task or thread.
//!
//! `unsafe` is allowed in this crate alone, and only in [`netlink`] and [`iptables`], where a socket option
//! has no safe wrapper, and in [`memory`]; every use states its reason.

mod below;
mod error;
mod family;
mod genl;
mod if_name;
mod mac;
mod nfnetlink;
mod vni;

pub mod accounting;
pub mod conntrack;
pub mod icmp;
pub mod ipset;
pub mod iptables;
pub mod ipvs;
pub mod memory;
pub mod netlink;
pub mod netns;
pub mod nft;
pub mod route;
pub mod stdio;
pub mod sysctl;
pub mod tc;
pub mod wireguard;

pub use error::{Error, Result};
pub use family::Family;
pub use if_name::{IfName, InvalidIfName};
pub use mac::{InvalidMac, Mac};
pub use vni::{InvalidVni, Vni};
