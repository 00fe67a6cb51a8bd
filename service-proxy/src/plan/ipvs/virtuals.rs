//! Virtual servers with their real servers, as they should stand or do.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use kernel::ipvs::{
    Flags, ObservedReal, Protocol as Tracked, RealServer, VirtualAddress, VirtualServer,
};

use crate::{
    model::Protocol,
    plan::{Address, Balance, Entrance, Frontend},
};

/// Virtual servers by what names them.
pub type Virtuals = BTreeMap<VirtualAddress, Virtual>;

/// A virtual server with its real servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Virtual {
    /// What it is.
    pub server: VirtualServer,
    /// Its real servers, by what names them.
    pub reals: BTreeMap<SocketAddr, Real>,
}

/// A real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Real {
    /// What it is.
    pub server: RealServer,
    /// No connection keeps it from being removed.
    pub idle: bool,
}

/// The scheduler that looks at the address of a client, and of real servers at their weight too late.
const SOURCE_HASHING: &str = "sh";
/// The one that hashes the same for all nodes.
const MAGLEV: &str = "mh";
/// The scheduler that never looks at weights: it refuses connections where a real server gets no new ones.
const DESTINATION_HASHING: &str = "dh";

// === impl Virtual ===

impl Virtual {
    /// The virtual server of a frontend at an address, which spreads connections evenly.
    pub fn of(address: VirtualAddress, balance: &Balance, scheduler: &str) -> Self {
        let affinity = balance.affinity.map(|timeout| {
            // The API server allows no more than a day.
            u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX)
        });
        let persistent = affinity.map_or(Flags::default(), |_| Flags::PERSISTENT);
        let server = VirtualServer {
            address,
            scheduler: scheduler.to_owned(),
            flags: persistent.with(flags(scheduler)),
            timeout: affinity.unwrap_or(0),
            client_prefix: address.family().max_prefix(),
        };
        let backends = match balance.entrance {
            Entrance::ExternalLocal => &balance.local,
            Entrance::Internal | Entrance::External => &balance.backends,
        };
        let reals = backends.iter().map(|backend| {
            let socket = SocketAddr::new(backend.address, backend.port);
            (socket, Real::new(socket))
        });
        Self {
            server,
            reals: reals.collect(),
        }
    }

    /// One that stands in the kernel.
    pub fn observed(server: VirtualServer, reals: Vec<ObservedReal>) -> Self {
        let reals = reals.into_iter().map(|observed| {
            let real = Real {
                server: observed.server,
                idle: !observed.is_in_use(),
            };
            (observed.server.socket, real)
        });
        Self {
            server,
            reals: reals.collect(),
        }
    }
}

// === impl Real ===

impl Real {
    /// One that gets its share of connections.
    fn new(socket: SocketAddr) -> Self {
        Self {
            server: RealServer::translated(socket, 1),
            idle: false,
        }
    }
}

/// Whether connections to a real server that has gone can end in peace: of TCP they do (the others' are
/// forgotten at once, as their clients can't tell), where the scheduler passes over those without weight.
pub fn drains(server: &VirtualServer) -> bool {
    server.address.protocol == Tracked::Tcp && server.scheduler != DESTINATION_HASHING
}

/// The virtual server of a frontend with an address of its own, or at one of the node's.
pub fn address(frontend: &Frontend, node: IpAddr) -> VirtualAddress {
    let ip = match frontend.address {
        Address::Own(ip) => ip,
        Address::Node => node,
    };
    VirtualAddress {
        protocol: tracked(frontend.protocol),
        socket: SocketAddr::new(ip, frontend.port),
    }
}

/// The frontend of a virtual server, with an address of its own or at any of the node's.
pub fn frontend(address: &VirtualAddress, by_node: bool) -> Frontend {
    let protocol = match address.protocol {
        Tracked::Tcp => Protocol::Tcp,
        Tracked::Udp => Protocol::Udp,
        Tracked::Sctp => Protocol::Sctp,
    };
    Frontend {
        address: if by_node {
            Address::Node
        } else {
            Address::Own(address.socket.ip())
        },
        protocol,
        port: address.socket.port(),
    }
}

/// What schedulers are told: `mh` counts the client's port as kube-proxy has it; `sh` goes on to another where
/// the real server gets no new connections, which it would refuse otherwise.
fn flags(scheduler: &str) -> Flags {
    match scheduler {
        MAGLEV => Flags::HASH_PORT,
        SOURCE_HASHING => Flags::HASH_FALLBACK,
        _ => Flags::default(),
    }
}

/// The protocol as the kernel's interfaces name it.
pub const fn tracked(protocol: Protocol) -> Tracked {
    match protocol {
        Protocol::Tcp => Tracked::Tcp,
        Protocol::Udp => Tracked::Udp,
        Protocol::Sctp => Tracked::Sctp,
    }
}
