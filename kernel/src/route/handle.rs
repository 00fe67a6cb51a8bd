//! The way into the kernel.

use crate::{
    Family, IfName, Result,
    netlink::{Protocol, Socket},
    netns::Namespace,
    Error,
};

use super::{Address, Change, FdbEntry, IfIndex, Link, Neighbour, Route};

/// Reads and changes the tables of one network namespace.
#[derive(Debug)]
pub struct Handle {
    socket: Socket,
}

impl Handle {
    /// Works on the calling thread's network namespace.
    pub fn open() -> Result<Self> {
        Socket::open(Protocol::Route)
            .map(|socket| Self { socket })
            .map_err(|error| Error::new("open a route netlink socket", error))
    }

    /// Works on another network namespace.
    pub fn open_in(namespace: &Namespace) -> Result<Self> {
        namespace.run(Self::open)?
    }

    /// Every interface.
    pub fn links(&mut self) -> Result<Vec<Link>> {
        todo!()
    }

    /// The interface of a name, if there is one.
    pub fn link_by_name(&mut self, _name: &IfName) -> Result<Option<Link>> {
        todo!()
    }

    /// The interface of an index, if there is one.
    pub fn link_by_index(&mut self, _index: IfIndex) -> Result<Option<Link>> {
        todo!()
    }

    /// Every address, of one interface or of all.
    pub fn addresses(&mut self, _interface: Option<IfIndex>) -> Result<Vec<Address>> {
        todo!()
    }

    /// Every unicast and blackhole route of a family with one next hop at the most, in all tables but
    /// `local`.
    pub fn routes(&mut self, _family: Family) -> Result<Vec<Route>> {
        todo!()
    }

    /// Every neighbour of a family on an interface.
    pub fn neighbours(&mut self, _family: Family, _interface: IfIndex) -> Result<Vec<Neighbour>> {
        todo!()
    }

    /// Every forwarding entry of a VXLAN device that has a destination.
    pub fn fdb(&mut self, _interface: IfIndex) -> Result<Vec<FdbEntry>> {
        todo!()
    }

    /// Carries out changes, many in one system call; answers with the outcome of each in their order.
    /// A refused change does not keep the later ones from being carried out.
    pub fn apply_each(&mut self, _changes: &[Change]) -> Result<Vec<Result<()>>> {
        todo!()
    }

    /// Carries out changes; fails with the first refusal, when all have been tried.
    pub fn apply(&mut self, changes: &[Change]) -> Result<()> {
        self.apply_each(changes)?.into_iter().collect()
    }

    /// How many changes were sent so far.
    pub fn sent(&self) -> u64 {
        self.socket.sent()
    }
}
