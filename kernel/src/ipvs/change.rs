//! Changes, as values.

use std::{fmt, net::SocketAddr};

use super::{RealServer, VirtualAddress, VirtualServer};

/// One change. `Add` fails where the object exists, the others where it does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Makes a virtual server without real servers.
    AddVirtual(VirtualServer),
    /// Gives a virtual server another scheduler, flags, timeout or prefix.
    SetVirtual(VirtualServer),
    /// Removes a virtual server with all its real servers.
    DeleteVirtual(VirtualAddress),
    /// Gives a virtual server a real one.
    AddReal(VirtualAddress, RealServer),
    /// Gives a real server another weight, forwarding method or thresholds.
    SetReal(VirtualAddress, RealServer),
    /// Takes a real server from a virtual one.
    DeleteReal(VirtualAddress, SocketAddr),
}

// === impl Change ===

impl Change {
    /// The virtual server that it is about.
    pub fn address(&self) -> &VirtualAddress {
        match self {
            Self::AddVirtual(server) | Self::SetVirtual(server) => &server.address,
            Self::DeleteVirtual(address)
            | Self::AddReal(address, _)
            | Self::SetReal(address, _)
            | Self::DeleteReal(address, _) => address,
        }
    }
}

/// The command of ipvsadm(8) that does the same.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddVirtual(server) => write!(f, "ipvsadm -A {server}"),
            Self::SetVirtual(server) => write!(f, "ipvsadm -E {server}"),
            Self::DeleteVirtual(address) => write!(f, "ipvsadm -D {address}"),
            Self::AddReal(address, real) => write!(f, "ipvsadm -a {address} {real}"),
            Self::SetReal(address, real) => write!(f, "ipvsadm -e {address} {real}"),
            Self::DeleteReal(address, socket) => write!(f, "ipvsadm -d {address} -r {socket}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::ipvs::{Flags, Protocol};

    #[test]
    fn reads_like_a_command() {
        let address = |protocol, socket: &str| VirtualAddress {
            protocol,
            socket: socket.parse().unwrap(),
        };
        let web = address(Protocol::Tcp, "10.96.0.1:80");
        let server = |address, flags, client_prefix| VirtualServer {
            address,
            scheduler: "sh".into(),
            flags,
            timeout: 600,
            client_prefix,
        };
        let sticky = Flags::PERSISTENT.with(Flags::HASH_PORT);
        let real = RealServer::translated("10.244.1.2:8080".parse().unwrap(), 1);
        for (change, text) in [
            (
                Change::AddVirtual(server(web, Flags::default(), 32)),
                "ipvsadm -A -t 10.96.0.1:80 -s sh",
            ),
            (
                Change::SetVirtual(server(address(Protocol::Udp, "[fd00::1]:53"), sticky, 64)),
                "ipvsadm -E -u [fd00::1]:53 -s sh -p 600 -M /64 -b flag-2",
            ),
            (
                Change::DeleteVirtual(address(Protocol::Sctp, "10.96.0.1:80")),
                "ipvsadm -D --sctp-service 10.96.0.1:80",
            ),
            (
                Change::AddReal(web, real),
                "ipvsadm -a -t 10.96.0.1:80 -r 10.244.1.2:8080 -m -w 1",
            ),
            (
                Change::SetReal(
                    web,
                    RealServer {
                        upper_threshold: 9,
                        ..real
                    },
                ),
                "ipvsadm -e -t 10.96.0.1:80 -r 10.244.1.2:8080 -m -w 1 -x 9",
            ),
            (
                Change::DeleteReal(web, real.socket),
                "ipvsadm -d -t 10.96.0.1:80 -r 10.244.1.2:8080",
            ),
        ] {
            assert_eq!(change.to_string(), text);
        }
    }
}
