//! Changes to a WireGuard device, and the messages that make them.

use std::net::{IpAddr, SocketAddr};

use ipnetwork::IpNetwork;

use super::{
    PublicKey, SecretKey, WG_CMD_SET_DEVICE, WGALLOWEDIP_A_CIDR_MASK, WGALLOWEDIP_A_FAMILY,
    WGALLOWEDIP_A_IPADDR, WGDEVICE_A_FLAGS, WGDEVICE_A_FWMARK, WGDEVICE_A_IFINDEX,
    WGDEVICE_A_LISTEN_PORT, WGDEVICE_A_PEERS, WGDEVICE_A_PRIVATE_KEY, WGPEER_A_ALLOWEDIPS,
    WGPEER_A_ENDPOINT, WGPEER_A_FLAGS, WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL,
    WGPEER_A_PRESHARED_KEY, WGPEER_A_PUBLIC_KEY, endpoint,
};
use crate::{Family, genl, netlink::attribute::Body, route::IfIndex};

const WGDEVICE_F_REPLACE_PEERS: u32 = 1;
const WGPEER_F_REMOVE_ME: u32 = 1;
const WGPEER_F_REPLACE_ALLOWEDIPS: u32 = 2;
const WGPEER_F_UPDATE_ONLY: u32 = 4;
/// A peer with more networks goes in several parts: an attribute holds less than 64 KiB.
const NETWORKS_PER_PART: usize = 256;
/// A message is closed when its peers are longer than this, so that it stays below 64 KiB as well: a
/// part is at the most 256 networks of 40 bytes long.
const PEERS_BYTES: usize = 32 << 10;

/// Changes to a WireGuard device; what is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Its private key; all zeros removes it.
    pub private_key: Option<SecretKey>,
    /// The UDP port that it receives at; 0: one that the kernel chooses.
    pub listen_port: Option<u16>,
    /// The mark of the packets that it sends; 0: none.
    pub mark: Option<u32>,
    /// Removes all peers first: those that are listed are then the only ones.
    pub replace_peers: bool,
    /// Changes to peers.
    pub peers: Vec<PeerSettings>,
}

/// Changes to a peer, which is made if it is not there; what is `None` stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSettings {
    /// Who it is.
    pub public_key: PublicKey,
    /// Removes it; nothing else matters then.
    pub remove: bool,
    /// Changes it only if it is there.
    pub update_only: bool,
    /// A key that both know in addition; all zeros removes it.
    pub preshared_key: Option<SecretKey>,
    /// Where it is reached.
    pub endpoint: Option<SocketAddr>,
    /// Seconds between packets that keep the path open; 0: none are sent.
    pub keepalive: Option<u16>,
    /// Takes all networks from it first: those that are listed are then the only ones.
    pub replace_allowed_ips: bool,
    /// Networks that are behind it. One that is another peer's is taken from that.
    pub allowed_ips: Vec<IpNetwork>,
}

/// A part of a peer's settings that fits into one attribute.
struct Part<'a> {
    peer: &'a PeerSettings,
    first: bool,
    networks: &'a [IpNetwork],
}

// === impl Settings ===

impl Settings {
    /// The messages that make the changes, in their order.
    pub(super) fn to_bodies(&self, interface: IfIndex) -> Vec<Body> {
        let mut parts = self.peers.iter().flat_map(PeerSettings::parts).peekable();
        let mut bodies = vec![];
        loop {
            let mut body = genl::start(WG_CMD_SET_DEVICE);
            body.put(WGDEVICE_A_IFINDEX, &interface.0.to_ne_bytes());
            if bodies.is_empty() {
                self.put_device(&mut body);
            }
            if parts.peek().is_some() {
                body.nest(WGDEVICE_A_PEERS, |peers| {
                    let end = peers.len() + PEERS_BYTES;
                    while let Some(part) = parts.next_if(|_| peers.len() < end) {
                        peers.nest(0, |peer| part.put(peer));
                    }
                });
            }
            bodies.push(body);
            if parts.peek().is_none() {
                return bodies;
            }
        }
    }

    fn put_device(&self, body: &mut Body) {
        if let Some(SecretKey(key)) = self.private_key {
            body.put(WGDEVICE_A_PRIVATE_KEY, &key);
        }
        if let Some(port) = self.listen_port {
            body.put(WGDEVICE_A_LISTEN_PORT, &port.to_ne_bytes());
        }
        if let Some(mark) = self.mark {
            body.put(WGDEVICE_A_FWMARK, &mark.to_ne_bytes());
        }
        if self.replace_peers {
            body.put(WGDEVICE_A_FLAGS, &WGDEVICE_F_REPLACE_PEERS.to_ne_bytes());
        }
    }
}

// === impl PeerSettings ===

impl PeerSettings {
    /// No change to a peer but that it is there.
    pub fn new(public_key: PublicKey) -> Self {
        Self {
            public_key,
            remove: false,
            update_only: false,
            preshared_key: None,
            endpoint: None,
            keepalive: None,
            replace_allowed_ips: false,
            allowed_ips: Vec::new(),
        }
    }

    fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let networks: &[IpNetwork] = if self.remove { &[] } else { &self.allowed_ips };
        let (start, rest) = networks.split_at(networks.len().min(NETWORKS_PER_PART));
        let part = |first, networks| Part {
            peer: self,
            first,
            networks,
        };
        let later = rest.chunks(NETWORKS_PER_PART);
        std::iter::once(part(true, start)).chain(later.map(move |it| part(false, it)))
    }

    fn flags(&self) -> u32 {
        [
            (self.remove, WGPEER_F_REMOVE_ME),
            (self.replace_allowed_ips, WGPEER_F_REPLACE_ALLOWEDIPS),
            (self.update_only, WGPEER_F_UPDATE_ONLY),
        ]
        .into_iter()
        .filter(|(set, _)| *set)
        .fold(0, |flags, (_, flag)| flags | flag)
    }
}

// === impl Part ===

impl Part<'_> {
    fn put(&self, body: &mut Body) {
        body.put(WGPEER_A_PUBLIC_KEY, &self.peer.public_key.0);
        if self.first {
            self.put_settings(body);
        } else {
            // It may have been removed, or not have been there, since the first part.
            body.put(WGPEER_A_FLAGS, &WGPEER_F_UPDATE_ONLY.to_ne_bytes());
        }
        if !self.networks.is_empty() {
            body.nest(WGPEER_A_ALLOWEDIPS, |networks| {
                for network in self.networks {
                    networks.nest(0, |inner| put_network(inner, *network));
                }
            });
        }
    }

    fn put_settings(&self, body: &mut Body) {
        let flags = self.peer.flags();
        if flags != 0 {
            body.put(WGPEER_A_FLAGS, &flags.to_ne_bytes());
        }
        if let Some(SecretKey(key)) = self.peer.preshared_key {
            body.put(WGPEER_A_PRESHARED_KEY, &key);
        }
        if let Some(address) = self.peer.endpoint {
            body.put(WGPEER_A_ENDPOINT, &endpoint::encode(address));
        }
        if let Some(seconds) = self.peer.keepalive {
            let kind = WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL;
            body.put(kind, &seconds.to_ne_bytes());
        }
    }
}

fn put_network(body: &mut Body, network: IpNetwork) {
    let family = u16::from(Family::of_network(&network).number());
    body.put(WGALLOWEDIP_A_FAMILY, &family.to_ne_bytes());
    match network.ip() {
        IpAddr::V4(ip) => body.put(WGALLOWEDIP_A_IPADDR, &ip.octets()),
        IpAddr::V6(ip) => body.put(WGALLOWEDIP_A_IPADDR, &ip.octets()),
    }
    body.put(WGALLOWEDIP_A_CIDR_MASK, &[network.prefix()]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_of_the_kernel_header() {
        let settings = Settings {
            private_key: Some(SecretKey([1; 32])),
            listen_port: Some(51820),
            replace_peers: true,
            peers: vec![PeerSettings {
                keepalive: Some(25),
                replace_allowed_ips: true,
                allowed_ips: vec!["10.5.1.0/24".parse().unwrap()],
                ..PeerSettings::new(PublicKey([2; 32]))
            }],
            ..Settings::default()
        };
        let [body] = &settings.to_bodies(IfIndex(7))[..] else {
            panic!("several messages");
        };
        #[rustfmt::skip]
        let mut expected = vec![
            1, 1, 0, 0,
            8, 0, 1, 0, 7, 0, 0, 0,
            36, 0, 3, 0,
        ];
        expected.extend([1; 32]);
        #[rustfmt::skip]
        expected.extend([
            6, 0, 6, 0, 0x6c, 0xca, 0, 0,
            8, 0, 5, 0, 1, 0, 0, 0,
            92, 0, 0x08, 0x80,
                88, 0, 0x00, 0x80,
                    36, 0, 1, 0,
        ]);
        expected.extend([2; 32]);
        #[rustfmt::skip]
        expected.extend([
                    8, 0, 3, 0, 2, 0, 0, 0,
                    6, 0, 5, 0, 25, 0, 0, 0,
                    32, 0, 0x09, 0x80,
                        28, 0, 0x00, 0x80,
                            6, 0, 1, 0, 2, 0, 0, 0, 8, 0, 2, 0, 10, 5, 1, 0, 5, 0, 3, 0, 24, 0, 0, 0,
        ]);
        assert_eq!(body.clone().into_bytes(), expected);
    }

    #[test]
    fn many_networks_go_in_several_messages() {
        let network = |i: u32| IpNetwork::new(IpAddr::from((i << 8).to_be_bytes()), 24);
        let peer = PeerSettings {
            replace_allowed_ips: true,
            allowed_ips: (0..5000).map(|i| network(i).unwrap()).collect(),
            ..PeerSettings::new(PublicKey([2; 32]))
        };
        let settings = Settings {
            peers: vec![peer],
            ..Settings::default()
        };
        let bodies = settings.to_bodies(IfIndex(7));
        assert!(bodies.len() > 1);
        assert!(bodies.iter().all(|body| body.len() < 60_000));
    }
}
