//! Echo requests and their answers (RFC 792, RFC 4443), in packets that nobody may fragment.

use std::{
    net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6,
        SockaddrStorage, recvfrom, sendto, socket,
    },
};

use crate::{Error, Family, Result, netlink};

/// Type, code, checksum, identifier, sequence number.
const HEADER: usize = 8;

/// A raw socket for echo requests of one family. Needs `CAP_NET_RAW`.
#[derive(Debug)]
pub struct EchoSocket {
    fd: OwnedFd,
    family: Family,
}

/// An echo request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EchoRequest {
    /// Where to.
    pub to: IpAddr,
    /// Tells the requests of different programs apart.
    pub id: u16,
    /// Tells a program's requests apart.
    pub sequence: u16,
    /// Length of the whole packet with its IP header, in bytes.
    pub length: usize,
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EchoReply {
    /// Who answers.
    pub from: IpAddr,
    /// The request's identifier.
    pub id: u16,
    /// The request's sequence number.
    pub sequence: u16,
}

// === impl EchoSocket ===

impl EchoSocket {
    /// A socket in the calling thread's network namespace.
    pub fn open(family: Family) -> Result<Self> {
        let open = || {
            let (domain, protocol) = match family {
                Family::V4 => (AddressFamily::Inet, SockProtocol::Icmp),
                Family::V6 => (AddressFamily::Inet6, SockProtocol::IcmpV6),
            };
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let fd = socket(domain, SockType::Raw, flags, protocol)?;
            let (level, option, probe) = match family {
                Family::V4 => (
                    libc::IPPROTO_IP,
                    libc::IP_MTU_DISCOVER,
                    libc::IP_PMTUDISC_PROBE,
                ),
                Family::V6 => (
                    libc::IPPROTO_IPV6,
                    libc::IPV6_MTU_DISCOVER,
                    libc::IPV6_PMTUDISC_PROBE,
                ),
            };
            // Never fragmented, and whatever was learned of the path before.
            netlink::set_int(&fd, level, option, probe)?;
            Ok(Self { fd, family })
        };
        open().map_err(|error: netlink::Error| {
            Error::new(format!("open an ICMP socket for {family}"), error)
        })
    }

    /// Sends a request; `false` where the packet does not fit the interface, or nothing leads there now.
    pub fn send(&self, request: &EchoRequest) -> Result<bool> {
        let message = self.message(request);
        let address = SocketAddr::new(request.to, 0);
        let sent = match address {
            SocketAddr::V4(to) => self.send_to(&message, &SockaddrIn::from(to)),
            SocketAddr::V6(to) => self.send_to(&message, &SockaddrIn6::from(to)),
        };
        match sent {
            Ok(_) => Ok(true),
            Err(Errno::EMSGSIZE | Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::ENOBUFS) => {
                Ok(false)
            }
            Err(errno) => Err(Error::new(
                format!("send an echo request to {}", request.to),
                netlink::Error::from(errno),
            )),
        }
    }

    /// The next answer to a request of anybody, if one comes in time.
    pub fn receive(&self, patience: Duration) -> Result<Option<EchoReply>> {
        let failed = |errno: Errno| Error::new("receive echo replies", netlink::Error::from(errno));
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        let mut ready = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, timeout) {
            Ok(0) | Err(Errno::EINTR) => return Ok(None),
            Ok(_) => {}
            Err(errno) => return Err(failed(errno)),
        }
        let mut buffer = [0; 128];
        match recvfrom::<SockaddrStorage>(self.fd.as_raw_fd(), &mut buffer) {
            Ok((length, from)) => Ok(from
                .and_then(|from| ip(&from))
                .and_then(|from| self.reply(from, &buffer[..length.min(128)]))),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
            Err(errno) => Err(failed(errno)),
        }
    }

    fn send_to(
        &self,
        message: &[u8],
        to: &dyn nix::sys::socket::SockaddrLike,
    ) -> std::result::Result<usize, Errno> {
        sendto(self.fd.as_raw_fd(), message, to, MsgFlags::empty())
    }

    fn message(&self, request: &EchoRequest) -> Vec<u8> {
        let (kind, ip_header) = match self.family {
            Family::V4 => (8, 20),
            Family::V6 => (128, 40),
        };
        let length = request.length.saturating_sub(ip_header).max(HEADER);
        let mut message = vec![0; length];
        message[0] = kind;
        message[4..6].copy_from_slice(&request.id.to_be_bytes());
        message[6..8].copy_from_slice(&request.sequence.to_be_bytes());
        // That of ICMPv6 covers addresses, and is the kernel's work.
        let checksum = checksum(&message);
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
        message
    }

    /// The kernel hands out IPv4 packets with their header, and IPv6 packets without.
    fn reply(&self, from: IpAddr, packet: &[u8]) -> Option<EchoReply> {
        let (kind, header) = match self.family {
            Family::V4 => (0, usize::from(packet.first()? & 0x0f) * 4),
            Family::V6 => (129, 0),
        };
        let message = packet.get(header..)?;
        let number = |at: usize| {
            Some(u16::from_be_bytes([
                *message.get(at)?,
                *message.get(at + 1)?,
            ]))
        };
        (*message.first()? == kind).then_some(EchoReply {
            from,
            id: number(4)?,
            sequence: number(6)?,
        })
    }
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|it| SocketAddrV4::from(*it));
    let v6 = address.as_sockaddr_in6().map(|it| SocketAddrV6::from(*it));
    v4.map(|it| IpAddr::from(*it.ip()))
        .or_else(|| v6.map(|it| IpAddr::from(*it.ip())))
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_rfc() {
        assert_eq!(
            checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]),
            !0xddf2
        );
        assert_eq!(checksum(&[0xff]), 0x00ff);
    }

    #[test]
    fn loopback_answers_in_both_families() {
        for to in ["127.0.0.1", "::1"] {
            let to: IpAddr = to.parse().unwrap();
            let Ok(socket) = EchoSocket::open(Family::of(&to)) else {
                eprintln!("skipped: no raw sockets without CAP_NET_RAW");
                continue;
            };
            let id = std::process::id() as u16;
            let sequence = 7;
            let request = EchoRequest {
                to,
                id,
                sequence,
                length: 1400,
            };
            assert!(socket.send(&request).unwrap());
            let expected = EchoReply {
                from: to,
                id,
                sequence,
            };
            // A raw socket also sees the request itself, and what other programs get.
            let found = (0..1000)
                .any(|_| socket.receive(Duration::from_millis(100)).unwrap() == Some(expected));
            assert!(found, "{to}");
        }
    }
}
