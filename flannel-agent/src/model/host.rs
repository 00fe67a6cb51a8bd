//! What the agent has to know of its node.

use std::net::IpAddr;

use kernel::{
    IfName,
    route::{Address, IfIndex, Link, Route},
};

use super::ByFamily;

/// The node's network configuration, as far as the choice of the external interface depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Its interfaces.
    pub links: Vec<Link>,
    /// Their addresses.
    pub addresses: Vec<Address>,
    /// Its routes, of both families.
    pub routes: Vec<Route>,
}

/// The interface that tunnelled packets use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Underlay {
    /// Its name.
    pub name: IfName,
    /// Its index.
    pub interface: IfIndex,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// The address of each family that packets leave with.
    pub addresses: ByFamily<IpAddr>,
    /// The address of each family that peers send to: the same, unless there is NAT between.
    pub public: ByFamily<IpAddr>,
}
