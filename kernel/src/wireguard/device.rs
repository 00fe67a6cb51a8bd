//! A WireGuard device as the kernel shows it, in one or several messages.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ipnetwork::IpNetwork;

use super::{
    PublicKey, SecretKey, WGALLOWEDIP_A_CIDR_MASK, WGALLOWEDIP_A_IPADDR, WGDEVICE_A_FWMARK,
    WGDEVICE_A_LISTEN_PORT, WGDEVICE_A_PEERS, WGDEVICE_A_PRIVATE_KEY, WGDEVICE_A_PUBLIC_KEY,
    WGPEER_A_ALLOWEDIPS, WGPEER_A_ENDPOINT, WGPEER_A_LAST_HANDSHAKE_TIME,
    WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL, WGPEER_A_PRESHARED_KEY, WGPEER_A_PUBLIC_KEY,
    WGPEER_A_RX_BYTES, WGPEER_A_TX_BYTES, endpoint,
};
use crate::{
    genl,
    netlink::{
        array_at,
        attribute::{attributes, find},
    },
};

/// What is in a WireGuard device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Its private key.
    pub private_key: Option<SecretKey>,
    /// The public key that belongs to it.
    pub public_key: Option<PublicKey>,
    /// The UDP port that it receives at; 0 as long as it is down and none was set.
    pub listen_port: u16,
    /// The mark of the packets that it sends; 0: none.
    pub mark: u32,
    /// Its peers, in the kernel's order.
    pub peers: Vec<Peer>,
}

/// A peer of a WireGuard device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who it is.
    pub public_key: PublicKey,
    /// A key that both know in addition.
    pub preshared_key: Option<SecretKey>,
    /// Where it was reached last, or is to be reached.
    pub endpoint: Option<SocketAddr>,
    /// Seconds between packets that keep the path open; 0: none are sent.
    pub keepalive: u16,
    /// When the last handshake was, since 1970; `None`: never.
    pub last_handshake: Option<Duration>,
    /// Bytes that came from it.
    pub received: u64,
    /// Bytes that were sent to it.
    pub sent: u64,
    /// Networks that are behind it.
    pub allowed_ips: Vec<IpNetwork>,
}

// === impl Device ===

impl Device {
    /// Takes up one message of several. A peer with many networks goes on in the next message, which
    /// then names it again.
    pub(super) fn read(&mut self, body: &[u8]) {
        for (kind, payload) in attributes(body.get(genl::HEADER_LEN..).unwrap_or_default()) {
            match kind {
                WGDEVICE_A_PRIVATE_KEY => self.private_key = secret(payload),
                WGDEVICE_A_PUBLIC_KEY => self.public_key = array_at(payload, 0).map(PublicKey),
                WGDEVICE_A_LISTEN_PORT => {
                    self.listen_port = array_at(payload, 0).map_or(0, u16::from_ne_bytes);
                }
                WGDEVICE_A_FWMARK => self.mark = array_at(payload, 0).map_or(0, u32::from_ne_bytes),
                WGDEVICE_A_PEERS => {
                    for peer in attributes(payload).filter_map(|(_, peer)| Peer::parse(peer)) {
                        self.add(peer);
                    }
                }
                _ => {}
            }
        }
    }

    fn add(&mut self, peer: Peer) {
        match self.peers.last_mut() {
            Some(last) if last.public_key == peer.public_key => {
                last.allowed_ips.extend(peer.allowed_ips);
            }
            _ => self.peers.push(peer),
        }
    }
}

// === impl Peer ===

impl Peer {
    /// `None` for a peer without a key.
    fn parse(payload: &[u8]) -> Option<Self> {
        let mut peer = Self {
            public_key: PublicKey(array_at(find(payload, WGPEER_A_PUBLIC_KEY)?, 0)?),
            preshared_key: None,
            endpoint: None,
            keepalive: 0,
            last_handshake: None,
            received: 0,
            sent: 0,
            allowed_ips: Vec::new(),
        };
        for (kind, payload) in attributes(payload) {
            match kind {
                WGPEER_A_PRESHARED_KEY => peer.preshared_key = secret(payload),
                WGPEER_A_ENDPOINT => peer.endpoint = endpoint::decode(payload),
                WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL => {
                    peer.keepalive = array_at(payload, 0).map_or(0, u16::from_ne_bytes);
                }
                WGPEER_A_LAST_HANDSHAKE_TIME => peer.last_handshake = time(payload),
                WGPEER_A_RX_BYTES => peer.received = number(payload),
                WGPEER_A_TX_BYTES => peer.sent = number(payload),
                WGPEER_A_ALLOWEDIPS => {
                    let networks = attributes(payload).filter_map(|(_, it)| network(it));
                    peer.allowed_ips = networks.collect();
                }
                _ => {}
            }
        }
        Some(peer)
    }
}

/// The kernel shows a key that is not there as zeros.
fn secret(payload: &[u8]) -> Option<SecretKey> {
    array_at(payload, 0)
        .filter(|key| *key != [0; 32])
        .map(SecretKey)
}

/// `struct __kernel_timespec`; zero: never.
fn time(payload: &[u8]) -> Option<Duration> {
    let seconds = i64::from_ne_bytes(array_at(payload, 0)?);
    let nanoseconds = i64::from_ne_bytes(array_at(payload, 8)?);
    let time = Duration::from_secs(seconds.try_into().ok()?)
        .checked_add(Duration::from_nanos(nanoseconds.try_into().ok()?))?;
    (!time.is_zero()).then_some(time)
}

fn number(payload: &[u8]) -> u64 {
    array_at(payload, 0).map_or(0, u64::from_ne_bytes)
}

fn network(payload: &[u8]) -> Option<IpNetwork> {
    let bytes = find(payload, WGALLOWEDIP_A_IPADDR)?;
    let ip = <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from));
    let prefix = *find(payload, WGALLOWEDIP_A_CIDR_MASK)?.first()?;
    IpNetwork::new(ip.ok()?, prefix).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        route::IfIndex,
        wireguard::{PeerSettings, Settings},
    };

    fn networks() -> impl Strategy<Value = Vec<IpNetwork>> {
        let network = any::<IpAddr>().prop_map(|ip| {
            let prefix = if ip.is_ipv4() { 24 } else { 64 };
            IpNetwork::new(ip, prefix).unwrap()
        });
        prop::collection::vec(network, 0..700)
    }

    fn peer() -> impl Strategy<Value = PeerSettings> {
        let key = prop::option::of(any::<[u8; 32]>().prop_map(SecretKey));
        let endpoint = prop::option::of(any::<SocketAddr>());
        let keepalive = prop::option::of(any::<u16>());
        (any::<[u8; 32]>(), key, endpoint, keepalive, networks()).prop_map(
            |(public_key, preshared_key, endpoint, keepalive, allowed_ips)| PeerSettings {
                preshared_key,
                endpoint,
                keepalive,
                allowed_ips,
                ..PeerSettings::new(PublicKey(public_key))
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        /// What the kernel shows has the form of what it is told.
        #[test]
        fn what_is_set_is_read(
            key: [u8; 32],
            port: u16,
            mark: u32,
            peers in prop::collection::vec(peer(), 0..6),
        ) {
            let settings = Settings {
                private_key: Some(SecretKey(key)),
                listen_port: Some(port),
                mark: Some(mark),
                replace_peers: true,
                peers,
            };
            let mut device = Device::default();
            for body in settings.to_bodies(IfIndex(7)) {
                device.read(&body.into_bytes());
            }
            let expected: Vec<_> = settings.peers.into_iter().map(|peer| Peer {
                public_key: peer.public_key,
                preshared_key: peer.preshared_key,
                endpoint: peer.endpoint,
                keepalive: peer.keepalive.unwrap_or(0),
                last_handshake: None,
                received: 0,
                sent: 0,
                allowed_ips: peer.allowed_ips,
            }).collect();
            prop_assert_eq!(device.peers, expected);
            prop_assert_eq!((device.listen_port, device.mark), (port, mark));
            prop_assert_eq!(device.private_key, Some(SecretKey(key)));
        }

        #[test]
        fn never_panics_on_any_bytes(bytes: Vec<u8>) {
            let mut device = Device::default();
            device.read(&bytes);
            prop_assert!(device.peers.len() <= bytes.len());
        }
    }

    #[test]
    fn handshake_and_counters_are_read() {
        use crate::netlink::attribute::Body;

        let mut body = Body::default();
        body.put(WGPEER_A_PUBLIC_KEY, &[3; 32]);
        body.put(WGPEER_A_PRESHARED_KEY, &[0; 32]);
        let handshake: Vec<u8> = [1_700_000_000i64, 5]
            .iter()
            .flat_map(|it| it.to_ne_bytes())
            .collect();
        body.put(WGPEER_A_LAST_HANDSHAKE_TIME, &handshake);
        body.put(WGPEER_A_RX_BYTES, &7u64.to_ne_bytes());
        body.put(WGPEER_A_TX_BYTES, &8u64.to_ne_bytes());
        let peer = Peer::parse(&body.into_bytes()).unwrap();
        assert_eq!(peer.last_handshake, Some(Duration::new(1_700_000_000, 5)));
        assert_eq!((peer.received, peer.sent, peer.preshared_key), (7, 8, None));
    }
}
