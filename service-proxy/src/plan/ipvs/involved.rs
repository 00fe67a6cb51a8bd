//! What a packet to one frontend meets.

use std::net::{IpAddr, SocketAddr};

use super::{Guard, Observed, Plan, Virtual, virtuals};
use crate::plan::Frontend;

/// What a packet to one frontend meets.
#[derive(Clone, Debug)]
pub struct Involved {
    /// What of the guard belongs to the frontend: the command that would add each, and whether it stands.
    pub guard: Vec<(String, bool)>,
    /// The virtual server that takes it, if one does.
    pub server: Option<Virtual>,
    /// The address that our interface has for it, if the node has it nowhere else.
    pub address: Option<IpAddr>,
}

// === impl Plan ===

impl<G: Guard> Plan<G> {
    /// What a packet to a frontend meets, which is sent to one of the addresses of that.
    pub fn involved(
        &self,
        frontend: &Frontend,
        to: SocketAddr,
        observed: &Observed<G::Observed>,
    ) -> Involved {
        let server = self.wanted(&virtuals::address(frontend, to.ip()));
        Involved {
            guard: self.guard.involved(&self.filter, frontend, &observed.guard),
            server: server.map(|(_, server)| server),
            address: self.needs_address(to.ip()).then_some(to.ip()),
        }
    }

    /// The endpoint that a client keeps where no virtual server says so; see [`Guard::kept`].
    pub fn kept(
        &self,
        observed: &Observed<G::Observed>,
        frontend: &Frontend,
        client: IpAddr,
        remembers: &dyn Fn(&str, IpAddr) -> bool,
    ) -> Option<SocketAddr> {
        self.guard
            .kept(&observed.guard, frontend, client, remembers)
    }
}
