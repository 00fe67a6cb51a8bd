//! Talking between nodes over the overlay.

use std::{
    io::{Read, Write},
    net::{IpAddr, TcpListener, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use crate::lab::{Node, TestNamespace, eventually};

/// How long a packet may be on its way, all told.
const PATIENCE: Duration = Duration::from_secs(30);

impl Node {
    /// The address of this node's device, of the family that the device is for.
    pub fn overlay_address(&self, device: &str) -> IpAddr {
        let mut kernel = self.host.kernel();
        let interface = crate::lab::index(&mut kernel, device);
        let addresses = kernel.addresses(Some(interface)).unwrap();
        let own = addresses.iter().find(|it| !it.link_local).unwrap();
        own.address.ip()
    }

    /// Whether a datagram and a connection reach another node's device from this one's.
    pub fn reaches(&self, other: &Self, device: &str) -> bool {
        let (from, to) = (self.overlay_address(device), other.overlay_address(device));
        talks(&self.host, from, &other.host, to)
    }
}

/// Whether a datagram and a connection get from one address to another, and come from the first.
pub fn talks(sender: &TestNamespace, from: IpAddr, receiver: &TestNamespace, to: IpAddr) -> bool {
    sends_datagram(sender, from, receiver, to) && connects(sender, from, receiver, to)
}

fn sends_datagram(
    sender: &TestNamespace,
    from: IpAddr,
    receiver: &TestNamespace,
    to: IpAddr,
) -> bool {
    let bind = |host: &TestNamespace, address| {
        let bind = || UdpSocket::bind((address, 0)).unwrap();
        host.namespace.run(bind).unwrap()
    };
    let (receiver, sender) = (bind(receiver, to), bind(sender, from));
    let patience = Some(Duration::from_millis(200));
    receiver.set_read_timeout(patience).unwrap();
    let to = receiver.local_addr().unwrap();
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        // The underlay loses what is sent before a bridge takes frames from a port that has just come up, which on
        // a busy machine is seconds later.
        let sent = sender.send_to(b"hello", to);
        let mut text = [0; 5];
        if sent.is_ok()
            && let Ok((len, sender)) = receiver.recv_from(&mut text)
        {
            return (len, sender.ip(), &text) == (5, from, b"hello");
        }
    }
    false
}

fn connects(sender: &TestNamespace, from: IpAddr, receiver: &TestNamespace, to: IpAddr) -> bool {
    let listen = || TcpListener::bind((to, 0)).unwrap();
    let listener = receiver.namespace.run(listen).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::scope(|scope| {
        let served = scope.spawn(|| {
            let (mut stream, peer) = listener.accept().unwrap();
            stream.write_all(&vec![7; 100_000]).unwrap();
            peer.ip()
        });
        let connect = || TcpStream::connect_timeout(&address, PATIENCE);
        let mut stream = sender.namespace.run(connect).unwrap().unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        received.len() == 100_000 && served.join().unwrap() == from
    })
}

/// Waits until every node has routes to all others.
pub fn wait_for_peers(nodes: &[&Node], family: kernel::Family, device: &str) {
    eventually("all nodes know each other", || {
        nodes.iter().all(|node| {
            let mut kernel = node.host.kernel();
            let interface = crate::lab::index(&mut kernel, device);
            let routes = kernel.routes(family).unwrap();
            let ours = routes.iter().filter(|route| {
                route.interface() == Some(interface)
                    && route.protocol == flannel_agent::plan::PROTOCOL
            });
            ours.count() == nodes.len() - 1
        })
    });
}
