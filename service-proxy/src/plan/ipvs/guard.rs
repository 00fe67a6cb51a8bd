//! What stands beside virtual servers: a table of nftables, or sets and chains of iptables.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, SocketAddr},
};

use kernel::{Family, ipvs::VirtualAddress, nft::Transaction};

use super::Record;
use crate::{
    model::{ObjectName, Service},
    plan::{
        Balance, Frontend,
        nftables::{self, NodeRules},
    },
};

/// Says who may connect, refuses, drops and masquerades, and leads to endpoints where these depend on who connects.
/// Also names which virtual servers and addresses are ours.
pub trait Guard: fmt::Debug {
    /// What it needs to know of a Service beside where connections to its frontends go.
    type Ports: Default;
    /// What stands in the kernel.
    type Observed;
    /// What is sent to the kernel at once.
    type Change: fmt::Debug;

    /// What it needs to know of a Service with some frontends.
    fn ports(
        service: &Service,
        family: Family,
        frontends: &BTreeMap<Frontend, Balance>,
    ) -> Self::Ports;

    /// Takes in what is the same for all Services, and the node's addresses.
    fn settle(&mut self, rules: &NodeRules, node: &BTreeSet<IpAddr>);

    /// Takes in what Services are now, whose frontends were or are among those touched; answers with what that
    /// changes. The table that `services` makes of it changes by `transactions`.
    fn update(
        &mut self,
        services: &nftables::Plan,
        ports: BTreeMap<ObjectName, Self::Ports>,
        touched: &BTreeSet<Frontend>,
        transactions: Vec<Transaction>,
    ) -> Steps<Self::Change>;

    /// Takes over from what stands what is not to change with a restart.
    fn adopt(&self, _services: &mut nftables::Plan, _observed: &Self::Observed) {}

    /// What makes all that stands what should, with a record of virtual servers and addresses.
    fn compare(
        &mut self,
        services: &nftables::Plan,
        observed: &Self::Observed,
        record: &Record,
    ) -> Steps<Self::Change>;

    /// Adds virtual servers and addresses to the record, if there are any.
    fn note(
        family: Family,
        servers: &[&VirtualAddress],
        addresses: &[IpAddr],
    ) -> Option<Self::Change>;

    /// Takes some out.
    fn forget(
        family: Family,
        servers: &[&VirtualAddress],
        addresses: &[IpAddr],
    ) -> Option<Self::Change>;

    /// The record that stands.
    fn record(observed: &Self::Observed) -> Record;

    /// The room that the record is made with for so many virtual servers and addresses.
    fn rooms(servers: usize, addresses: usize) -> [u32; 2];

    /// What belongs to a frontend: the command that would add each, and whether it stands.
    fn involved(
        &self,
        services: &nftables::Plan,
        frontend: &Frontend,
        observed: &Self::Observed,
    ) -> Vec<(String, bool)>;

    /// The endpoint that a client keeps where no virtual server says so. `remembers` tells whether a list of clients,
    /// as the match `recent` of iptables keeps it, has one.
    fn kept(
        &self,
        observed: &Self::Observed,
        frontend: &Frontend,
        client: IpAddr,
        remembers: &dyn Fn(&str, IpAddr) -> bool,
    ) -> Option<SocketAddr>;

    /// Puts what is sent one after the other together, as far as that can be.
    fn joined(mut first: Vec<Self::Change>, second: Vec<Self::Change>) -> Vec<Self::Change> {
        first.extend(second);
        first
    }
}

/// What is sent before virtual servers change, and what after: there is no moment in which one stands without what
/// belongs to it.
#[derive(Debug)]
pub struct Steps<C> {
    /// What is added or replaced.
    pub first: Vec<C>,
    /// What goes.
    pub last: Vec<C>,
    /// Something has to be made anew: everything has to be compared.
    pub outgrown: bool,
}
