//! Talking between nodes over the overlay.

use std::{
    io::{Read, Write},
    net::{IpAddr, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use crate::lab::{Node, TestNamespace, eventually};

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
    receiver
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    sender
        .send_to(b"hello", receiver.local_addr().unwrap())
        .unwrap();
    let mut text = [0; 5];
    let received = receiver.recv_from(&mut text);
    received.is_ok_and(|(len, sender)| (len, sender.ip(), &text) == (5, from, b"hello"))
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
        let connect = || TcpStream::connect_timeout(&address, Duration::from_secs(5));
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
