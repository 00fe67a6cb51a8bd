//! WireGuard devices against the kernel, where it has them; `tests/debian-kernel/run.sh` runs this
//! under one that has.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod namespace;

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use kernel::{
    route::{Change, NewLink, NewLinkKind},
    wireguard::{Handle, PeerSettings, PublicKey, SecretKey, Settings},
};
use namespace::{TestNamespace, name};

#[test]
fn keys_port_and_peers_read_back_as_they_were_set() {
    let node = TestNamespace::new("wireguard");
    let mut wireguard = match Handle::open_in(&node.namespace) {
        Ok(handle) => handle,
        Err(error) => {
            println!("{error}");
            assert!(error.is_not_found(), "{error}");
            let text = error.to_string();
            let start = "find the generic netlink family \"wireguard\" in the kernel: ";
            assert!(text.starts_with(start), "{text}");
            return;
        }
    };
    println!("wireguard: found");
    let mut route = node.handle();
    let link = NewLink {
        up: true,
        ..NewLink::new(name("wg0"), NewLinkKind::Wireguard)
    };
    route.apply(&[Change::AddLink(link)]).unwrap();
    let interface = route.link_by_name(&name("wg0")).unwrap().unwrap().index;
    assert_eq!(wireguard.device(interface).unwrap().private_key, None);

    // Clamped already (RFC 7748), so that it reads back as it is.
    let mut key = [7; 32];
    (key[0], key[31]) = (0x08, 0x47);
    let network = |i: u32| IpNetwork::new(IpAddr::from((0x0a00_0000 | i << 8).to_be_bytes()), 24);
    let many = PeerSettings {
        endpoint: Some("192.0.2.1:51820".parse().unwrap()),
        keepalive: Some(25),
        allowed_ips: (0..3000).map(|i| network(i).unwrap()).collect(),
        ..PeerSettings::new(PublicKey([2; 32]))
    };
    let one = PeerSettings {
        preshared_key: Some(SecretKey([9; 32])),
        endpoint: Some("[2001:db8::1]:51821".parse().unwrap()),
        allowed_ips: vec!["fd00::/64".parse().unwrap()],
        ..PeerSettings::new(PublicKey([3; 32]))
    };
    let settings = Settings {
        private_key: Some(SecretKey(key)),
        listen_port: Some(51820),
        mark: Some(0x10),
        replace_peers: true,
        peers: vec![many.clone(), one.clone()],
    };
    wireguard.set(interface, &settings).unwrap();
    wireguard.set(interface, &settings).unwrap();
    let device = wireguard.device(interface).unwrap();
    assert_eq!(device.private_key, Some(SecretKey(key)));
    assert!(device.public_key.is_some());
    assert_eq!((device.listen_port, device.mark), (51820, 0x10));
    assert_eq!(device.peers.len(), 2);
    for wanted in [&many, &one] {
        let mut peers = device.peers.iter();
        let peer = peers.find(|it| it.public_key == wanted.public_key).unwrap();
        assert_eq!(peer.endpoint, wanted.endpoint);
        assert_eq!(peer.preshared_key, wanted.preshared_key);
        assert_eq!(peer.keepalive, wanted.keepalive.unwrap_or(0));
        let mut allowed = peer.allowed_ips.clone();
        allowed.sort();
        assert_eq!(allowed, wanted.allowed_ips);
        assert_eq!(peer.last_handshake, None);
    }

    let change = Settings {
        peers: vec![
            PeerSettings {
                replace_allowed_ips: true,
                allowed_ips: vec!["10.9.0.0/24".parse().unwrap()],
                ..PeerSettings::new(many.public_key)
            },
            PeerSettings {
                remove: true,
                ..PeerSettings::new(one.public_key)
            },
        ],
        ..Settings::default()
    };
    wireguard.set(interface, &change).unwrap();
    let device = wireguard.device(interface).unwrap();
    let [peer] = &device.peers[..] else {
        panic!("{} peers", device.peers.len());
    };
    assert_eq!(peer.allowed_ips, change.peers[0].allowed_ips);
    assert_eq!(peer.endpoint, many.endpoint);
}
