//! Packets that fit no connection (F35).
//!
//! What an endpoint sends outside of the window is not translated back. If it reached the client under the
//! endpoint's own address, the client would answer with a reset, and that ends the connection.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd, OwnedFd},
};

use kernel::Family;
use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, recvfrom,
        sendto, socket,
    },
};

use crate::{
    manifest::Listed,
    network::{Network, Place},
    proxy::{Mode, Proxy},
    server::PORT,
    web,
};

/// Sequence numbers all around the circle: some are beyond any window.
const AROUND: [u32; 4] = [0, 1 << 30, 2 << 30, 3 << 30];
const TCP: u8 = 6;
const HEADER_LEN: u8 = 20;
const ACK: u8 = 0x10;

/// A socket for whole TCP segments.
fn raw(network: &Network, place: Place, family: Family) -> OwnedFd {
    let domain = match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let open = || socket(domain, SockType::Raw, flags, SockProtocol::Tcp);
    network.namespace(place).run(open).unwrap().unwrap()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}

/// An acknowledgement without data (RFC 9293), with its checksum.
fn segment(from: SocketAddr, to: SocketAddr, sequence: u32, acknowledged: u32) -> Vec<u8> {
    let mut segment = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    segment.extend(sequence.to_be_bytes());
    segment.extend(acknowledged.to_be_bytes());
    // Header length in words, flags, window, checksum, urgent pointer.
    segment.extend([HEADER_LEN << 2, ACK, 1, 0, 0, 0, 0, 0]);
    let pseudo = [
        octets(from.ip()),
        octets(to.ip()),
        vec![0, TCP, 0, HEADER_LEN],
    ]
    .concat();
    let words = pseudo.iter().chain(&segment).copied().collect::<Vec<_>>();
    let sum: u32 = words
        .chunks(2)
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap();
    segment[16..18].copy_from_slice(&checksum.to_be_bytes());
    segment
}

/// Whether a socket for whole segments has received one from an address.
fn has_received_from(socket: &OwnedFd, address: IpAddr) -> bool {
    let mut found = false;
    let mut buffer = [0; 2048];
    loop {
        match recvfrom::<SockaddrStorage>(socket.as_raw_fd(), &mut buffer) {
            Ok((_, from)) => {
                let from = from.unwrap();
                let v4 = from.as_sockaddr_in().map(|from| IpAddr::V4(from.ip()));
                let v6 = from.as_sockaddr_in6().map(|from| IpAddr::V6(from.ip()));
                found |= v4.or(v6) == Some(address);
            }
            Err(Errno::EAGAIN) => return found,
            Err(error) => panic!("{error}"),
        }
    }
}

fn what_fits_no_connection_does_not_reach_the_client(family: Family) {
    let network = Network::new();
    let table = match family {
        Family::V4 => "ip tweed-proxy",
        Family::V6 => "ip6 tweed-proxy",
    };
    let mut service = web(family);
    service.endpoints = vec![Listed::ready(Place::Pod2, family)];
    network.write(&service);
    let mut proxy = Proxy::start(&network);
    let mut connection = network.connect(Place::Client, service.socket());
    connection.assert_echoes();
    let pod = SocketAddr::new(Place::Pod2.address(family), PORT);
    let client = connection.local_address().unwrap();
    let sender = raw(&network, Place::Pod2, family);
    let receiver = raw(&network, Place::Client, family);
    let mut forge = || -> io::Result<bool> {
        let to = SockaddrStorage::from(SocketAddr::new(client.ip(), 0));
        for (sequence, acknowledged) in AROUND.into_iter().flat_map(|a| AROUND.map(|b| (a, b))) {
            let segment = segment(pod, client, sequence, acknowledged);
            sendto(sender.as_raw_fd(), &segment, &to, MsgFlags::empty())?;
        }
        // The answer comes the same way, behind them.
        let answered = connection.exchange();
        let reached = has_received_from(&receiver, pod.ip());
        answered.map(|_| reached)
    };
    assert!(!forge().unwrap());

    // So it would be without the rule.
    if Mode::of_run() == Mode::Nftables {
        proxy.terminate();
        network.nft(&format!("flush chain {table} filter-forward"));
        assert!(forge().unwrap_or(true));
    }
}

#[test]
fn what_fits_no_connection_does_not_reach_the_client_v4() {
    what_fits_no_connection_does_not_reach_the_client(Family::V4);
}

#[test]
fn what_fits_no_connection_does_not_reach_the_client_v6() {
    what_fits_no_connection_does_not_reach_the_client(Family::V6);
}
