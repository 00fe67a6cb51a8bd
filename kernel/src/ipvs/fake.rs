//! IPVS in memory: for tests of what is to be sent to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use nix::errno::Errno;

use super::{
    Change, ObservedReal, RealServer, VirtualAddress, VirtualServer, overtaken::Remainder,
};
use crate::{Error, Family, Result, netlink};

/// Virtual servers in memory. Takes changes as the kernel does, and refuses what it refuses.
#[derive(Clone, Debug)]
pub struct Fake {
    servers: BTreeMap<VirtualAddress, (VirtualServer, BTreeMap<SocketAddr, ObservedReal>)>,
    schedulers: BTreeSet<String>,
    applied: Vec<Change>,
}

/// Why a change is refused.
type Refused<T = ()> = Result<T, Errno>;

// === impl Fake ===

impl Fake {
    /// Without virtual servers, with the schedulers of Linux 6.1.
    pub fn new() -> Self {
        let schedulers = [
            "rr", "wrr", "lc", "wlc", "fo", "ovf", "lblc", "lblcr", "dh", "sh", "mh", "sed", "nq",
            "twos",
        ];
        Self {
            servers: BTreeMap::new(),
            schedulers: schedulers.map(str::to_owned).into(),
            applied: Vec::new(),
        }
    }

    /// All virtual servers.
    pub fn virtual_servers(&self) -> Vec<VirtualServer> {
        let servers = self.servers.values();
        servers.map(|(server, _)| server.clone()).collect()
    }

    /// The real servers of a virtual one; none if there is no such virtual server.
    pub fn real_servers(&self, address: &VirtualAddress) -> Result<Vec<ObservedReal>> {
        let reals = self.servers.get(address).map(|(_, reals)| reals);
        Ok(reals
            .into_iter()
            .flat_map(BTreeMap::values)
            .copied()
            .collect())
    }

    /// Carries out changes in their order; fails with the first refusal, when all have been tried.
    ///
    /// # Errors
    /// As [`Handle::apply`](super::Handle::apply), with the error numbers of the kernel.
    pub fn apply(&mut self, changes: &[Change]) -> Result<()> {
        let outcomes = self.try_all(changes);
        for (change, outcome) in changes.iter().zip(outcomes) {
            outcome.map_err(|error| Error::new(change.to_string(), error))?;
        }
        Ok(())
    }

    /// The same where others may have been faster.
    ///
    /// # Errors
    /// As [`Handle::converge`](super::Handle::converge).
    pub fn converge(&mut self, changes: &[Change]) -> Result<usize> {
        let outcomes = self.try_all(changes);
        let remainder = Remainder::of(changes, outcomes)?;
        self.apply(&remainder.instead)?;
        Ok(remainder.overtaken)
    }

    /// The changes that were carried out since this was called last.
    pub fn take_applied(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.applied)
    }

    /// Lets a real server have connections; none where there is no such server.
    pub fn set_connections(
        &mut self,
        address: &VirtualAddress,
        real: SocketAddr,
        active: u32,
        inactive: u32,
    ) {
        let reals = self.servers.get_mut(address).map(|(_, reals)| reals);
        if let Some(real) = reals.and_then(|reals| reals.get_mut(&real)) {
            (real.active, real.inactive) = (active, inactive);
        }
    }

    fn try_all(&mut self, changes: &[Change]) -> Vec<netlink::Result<()>> {
        let mut outcomes = Vec::new();
        for change in changes {
            let outcome = self.carry_out(change);
            if outcome.is_ok() {
                self.applied.push(change.clone());
            }
            outcomes.push(outcome.map_err(refusal));
        }
        outcomes
    }

    fn carry_out(&mut self, change: &Change) -> Refused {
        match change {
            Change::AddVirtual(server) => {
                self.check(server)?;
                if self.servers.contains_key(&server.address) {
                    return Err(Errno::EEXIST);
                }
                let entry = (server.clone(), BTreeMap::new());
                self.servers.insert(server.address, entry);
            }
            Change::SetVirtual(server) => {
                let known = self.servers.get(&server.address);
                known.ok_or(Errno::ESRCH)?;
                self.check(server)?;
                if let Some((known, _)) = self.servers.get_mut(&server.address) {
                    known.clone_from(server);
                }
            }
            Change::DeleteVirtual(address) => {
                self.servers.remove(address).ok_or(Errno::ESRCH)?;
            }
            Change::AddReal(address, real) => {
                check_family(address, real)?;
                let reals = self.reals(address)?;
                if reals.contains_key(&real.socket) {
                    return Err(Errno::EEXIST);
                }
                let observed = ObservedReal {
                    server: *real,
                    active: 0,
                    inactive: 0,
                    persistent: 0,
                };
                reals.insert(real.socket, observed);
            }
            Change::SetReal(address, real) => {
                check_family(address, real)?;
                let known = self.reals(address)?.get_mut(&real.socket);
                known.ok_or(Errno::ENOENT)?.server = *real;
            }
            Change::DeleteReal(address, socket) => {
                self.reals(address)?.remove(socket).ok_or(Errno::ENOENT)?;
            }
        }
        Ok(())
    }

    fn check(&self, server: &VirtualServer) -> Refused {
        let max = server.address.family().max_prefix();
        if !self.schedulers.contains(&server.scheduler) {
            return Err(Errno::ENOENT);
        }
        if server.client_prefix == 0 || server.client_prefix > max {
            return Err(Errno::EINVAL);
        }
        Ok(())
    }

    fn reals(
        &mut self,
        address: &VirtualAddress,
    ) -> Refused<&mut BTreeMap<SocketAddr, ObservedReal>> {
        let server = self.servers.get_mut(address);
        server.map(|(_, reals)| reals).ok_or(Errno::ESRCH)
    }
}

impl Default for Fake {
    fn default() -> Self {
        Self::new()
    }
}

/// Only a tunnel leads to a real server of the other family.
fn check_family(address: &VirtualAddress, real: &RealServer) -> Refused {
    if address.family() == Family::of(&real.socket.ip()) {
        Ok(())
    } else {
        Err(Errno::EINVAL)
    }
}

fn refusal(errno: Errno) -> netlink::Error {
    netlink::Error::Refused {
        errno,
        message: None,
    }
}
