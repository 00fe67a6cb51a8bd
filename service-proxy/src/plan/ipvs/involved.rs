//! What a packet to one frontend meets.

use std::net::{IpAddr, SocketAddr};

use super::{Plan, Virtual, virtuals};
use crate::plan::{Frontend, nftables};

/// What a packet to one frontend meets.
#[derive(Clone, Debug)]
pub struct Involved {
    /// Elements of the table.
    pub elements: Vec<nftables::Involved>,
    /// The virtual server that takes it, if one does.
    pub server: Option<Virtual>,
    /// The address that our interface has for it, if the node has it nowhere else.
    pub address: Option<IpAddr>,
}

// === impl Plan ===

impl Plan {
    /// What a packet to a frontend meets, which is sent to one of the addresses of that.
    pub fn involved(&self, frontend: &Frontend, to: SocketAddr) -> Involved {
        let server = self.wanted(&virtuals::address(frontend, to.ip()));
        Involved {
            elements: self.filter.involved(frontend),
            server: server.map(|(_, server)| server),
            address: self.needs_address(to.ip()).then_some(to.ip()),
        }
    }
}
