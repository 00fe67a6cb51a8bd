//! What is in a WireGuard device: who is behind it, and where they are to be found.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use ipnetwork::IpNetwork;
use kernel::{
    Family,
    route::IfIndex,
    wireguard::{self, Device, PeerSettings, PublicKey, SecretKey, Settings},
};

use super::{Peer, Place};
use crate::model::{Attributes, ByFamily, WireguardConf, WireguardEndpoint, WireguardMode};

/// A node behind a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// Where its lease says that it is.
    pub endpoint: SocketAddr,
    /// Its subnets.
    pub networks: BTreeSet<IpNetwork>,
}

/// Everybody behind a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tunnels(pub BTreeMap<PublicKey, Tunnel>);

/// Who is behind each device of a WireGuard network, of those whose keys are wanted. A device may carry several
/// families; the first one comes with it.
pub fn tunnels<'a>(
    all: impl Iterator<Item = (&'a Place, &'a BTreeMap<IpNetwork, Peer>)>,
    is_wanted: impl Fn(&PublicKey) -> bool,
) -> BTreeMap<IfIndex, (Family, Tunnels)> {
    let mut devices = BTreeMap::new();
    for (place, peers) in all {
        if let Some(device) = place.device.filter(|_| place.whole_network) {
            let empty = || (place.family, Tunnels::default());
            let (_, tunnels) = devices.entry(device).or_insert_with(empty);
            tunnels.add(peers, &is_wanted);
        }
    }
    devices
}

// === impl Tunnels ===

impl Tunnels {
    fn add(&mut self, peers: &BTreeMap<IpNetwork, Peer>, is_wanted: impl Fn(&PublicKey) -> bool) {
        for (subnet, peer) in peers {
            let Some((key, endpoint)) = peer.tunnel().filter(|(key, _)| is_wanted(key)) else {
                continue;
            };
            let tunnel = self.0.entry(key).or_insert_with(|| Tunnel {
                endpoint,
                networks: BTreeSet::new(),
            });
            tunnel.networks.insert(*subnet);
        }
    }

    /// Where everybody is to be found.
    pub fn endpoints(&self) -> BTreeMap<PublicKey, SocketAddr> {
        let tunnels = self.0.iter();
        tunnels
            .map(|(key, tunnel)| (*key, tunnel.endpoint))
            .collect()
    }
}

// === impl Tunnel ===

impl Tunnel {
    /// How a node stands in the kernel that was told all of it.
    fn standing(&self, public_key: PublicKey, conf: &WireguardConf) -> wireguard::Peer {
        wireguard::Peer {
            public_key,
            preshared_key: conf.psk,
            endpoint: Some(self.endpoint),
            keepalive: conf.keepalive,
            last_handshake: None,
            received: 0,
            sent: 0,
            allowed_ips: self.networks.iter().copied().collect(),
        }
    }
}

/// The changes that bring a device in line; `None` if there are none. `told` are the endpoints that the
/// kernel was told before: from then on it follows nodes by itself to where their packets come from, and
/// is told again only of what is new in their leases.
pub fn wireguard_settings(
    have: &Device,
    key: SecretKey,
    port: u16,
    conf: &WireguardConf,
    want: &Tunnels,
    told: &BTreeMap<PublicKey, SocketAddr>,
) -> Option<Settings> {
    let standing: BTreeMap<_, _> = have.peers.iter().map(|it| (it.public_key, it)).collect();
    let stale = standing.keys().filter(|key| !want.0.contains_key(key));
    let removals = stale.map(|key| PeerSettings {
        remove: true,
        ..PeerSettings::new(*key)
    });
    let changes = want.0.iter().filter_map(|(key, tunnel)| {
        let is_told = told.get(key) == Some(&tunnel.endpoint);
        peer_settings(*key, standing.get(key).copied(), conf, tunnel, is_told)
    });
    let settings = Settings {
        private_key: (have.private_key != Some(key)).then_some(key),
        listen_port: (have.listen_port != port).then_some(port),
        peers: removals.chain(changes).collect(),
        ..Settings::default()
    };
    (settings != Settings::default()).then_some(settings)
}

/// The changes for nodes of a device that are no longer as they were `before`; `None` if there are none. It is
/// not looked at what the kernel has, and nobody else is touched.
pub fn tunnel_changes(conf: &WireguardConf, before: &Tunnels, now: &Tunnels) -> Option<Settings> {
    let gone = before.0.keys().filter(|key| !now.0.contains_key(key));
    let removals = gone.map(|key| PeerSettings {
        remove: true,
        ..PeerSettings::new(*key)
    });
    let changes = now.0.iter().filter_map(|(key, tunnel)| {
        let standing = before.0.get(key).map(|it| it.standing(*key, conf));
        peer_settings(*key, standing.as_ref(), conf, tunnel, false)
    });
    let peers: Vec<_> = removals.chain(changes).collect();
    (!peers.is_empty()).then(|| Settings {
        peers,
        ..Settings::default()
    })
}

/// The key of a node, and where to find it.
pub(super) fn endpoint(
    family: Family,
    conf: &WireguardConf,
    own: &Attributes,
    its: &Attributes,
    keys: &ByFamily<WireguardEndpoint>,
) -> Result<(PublicKey, SocketAddr), String> {
    let (over, endpoint) = match conf.mode {
        WireguardMode::Separate => (family, keys.get(family)),
        WireguardMode::Over(over) => (over, only_endpoint(keys)),
        WireguardMode::Auto => (likelier(&own.public, &its.public), only_endpoint(keys)),
    };
    let endpoint = endpoint.ok_or_else(|| format!("it names no {family} WireGuard endpoint"))?;
    if own.backend.has_key(endpoint.public_key) {
        let why = "it has this node's own WireGuard key: was the key file copied?";
        return Err(why.to_owned());
    }
    let address = its.public.get(over).copied();
    let address = address.ok_or_else(|| format!("it names no public {over} address"))?;
    let port = match endpoint.port {
        0 => conf.port(family),
        port => port,
    };
    Ok((endpoint.public_key, SocketAddr::new(address, port)))
}

/// The endpoint of a node with one device. That of IPv4 has the device's port also where flannel names
/// another one for IPv6, at which nobody listens.
fn only_endpoint(keys: &ByFamily<WireguardEndpoint>) -> Option<&WireguardEndpoint> {
    keys.iter().next().map(|(_, endpoint)| endpoint)
}

/// The family by which two nodes are likelier to reach each other, as flannel guesses: IPv4, unless only
/// the IPv6 addresses are public.
fn likelier(own: &ByFamily<IpAddr>, its: &ByFamily<IpAddr>) -> Family {
    let has = |all: &ByFamily<IpAddr>, family| all.get(family).is_some();
    let is_public = |all: &ByFamily<IpAddr>, family| all.get(family).is_some_and(is_global);
    let both_have = |family| has(own, family) && has(its, family);
    if !both_have(Family::V6) {
        return Family::V4;
    }
    let v6_is_public = is_public(own, Family::V6) && is_public(its, Family::V6);
    if !both_have(Family::V4) || !is_public(its, Family::V4) && v6_is_public {
        return Family::V6;
    }
    Family::V4
}

fn is_global(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => !(ip.is_private() || ip.is_link_local()),
        IpAddr::V6(ip) => !(ip.is_unique_local() || ip.is_unicast_link_local()),
    }
}

/// What makes a peer as it should be.
fn peer_settings(
    key: PublicKey,
    have: Option<&wireguard::Peer>,
    conf: &WireguardConf,
    tunnel: &Tunnel,
    is_told: bool,
) -> Option<PeerSettings> {
    // All zeros remove it.
    const NO_KEY: SecretKey = SecretKey([0; 32]);
    let unchanged = PeerSettings::new(key);
    let networks: BTreeSet<_> = have.iter().flat_map(|it| &it.allowed_ips).collect();
    let has_networks = networks.into_iter().eq(&tunnel.networks);
    let has_psk = have.map_or(conf.psk.is_none(), |it| it.preshared_key == conf.psk);
    let has_keepalive = have.map_or(conf.keepalive == 0, |it| it.keepalive == conf.keepalive);
    let has_endpoint = have.is_some_and(|it| is_told || it.endpoint == Some(tunnel.endpoint));
    let settings = PeerSettings {
        preshared_key: (!has_psk).then(|| conf.psk.unwrap_or(NO_KEY)),
        keepalive: (!has_keepalive).then_some(conf.keepalive),
        endpoint: (!has_endpoint).then_some(tunnel.endpoint),
        replace_allowed_ips: !has_networks,
        allowed_ips: if has_networks {
            Vec::new()
        } else {
            tunnel.networks.iter().copied().collect()
        },
        ..unchanged.clone()
    };
    (settings != unchanged).then_some(settings)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::BackendData;

    const KEY: SecretKey = SecretKey([1; 32]);
    const PORT: u16 = 51820;

    fn conf(mode: WireguardMode) -> WireguardConf {
        WireguardConf {
            psk: None,
            listen_port: PORT,
            listen_port_v6: 51821,
            mtu: None,
            mode,
            keepalive: 0,
        }
    }

    fn public(addresses: &[&str]) -> ByFamily<IpAddr> {
        let parsed = addresses.iter().map(|text| text.parse().unwrap());
        parsed.map(|ip| (Family::of(&ip), ip)).collect()
    }

    /// A node with a key of this byte.
    fn node(key: u8, addresses: &[&str], ports: [u16; 2]) -> Attributes {
        let endpoint = |port| WireguardEndpoint {
            public_key: PublicKey([key; 32]),
            port,
        };
        let endpoints = Family::ALL.into_iter().zip(ports.map(endpoint));
        Attributes {
            backend: BackendData::Wireguard(endpoints.collect()),
            public: public(addresses),
        }
    }

    fn found(family: Family, mode: WireguardMode, its: &Attributes) -> Result<String, String> {
        let own = node(1, &["10.0.0.1", "2001:db8::1"], [PORT, 51821]);
        let BackendData::Wireguard(keys) = &its.backend else {
            panic!("{its:?}");
        };
        endpoint(family, &conf(mode), &own, its, keys).map(|(_, address)| address.to_string())
    }

    #[test]
    fn nodes_are_found_by_the_mode() {
        let (v4, v6) = (Family::V4, Family::V6);
        let private = node(2, &["10.0.0.2", "2001:db8::2"], [PORT, 51821]);
        let global = node(2, &["198.51.100.2", "2001:db8::2"], [PORT, 51821]);
        let ipv4 = node(2, &["10.0.0.2"], [PORT, 51821]);
        let ipv6 = node(2, &["fd00::2"], [0, 0]);
        use WireguardMode::{Auto, Over, Separate};
        for (family, mode, its, endpoint) in [
            (v4, Separate, &private, "10.0.0.2:51820"),
            (v6, Separate, &private, "[2001:db8::2]:51821"),
            (v6, Separate, &ipv6, "[fd00::2]:51821"),
            (v6, Over(v4), &private, "10.0.0.2:51820"),
            (v4, Over(v6), &private, "[2001:db8::2]:51820"),
            (v4, Over(v6), &ipv6, "[fd00::2]:51820"),
            (v4, Auto, &private, "[2001:db8::2]:51820"),
            (v6, Auto, &global, "198.51.100.2:51820"),
            (v6, Auto, &ipv4, "10.0.0.2:51820"),
            (v4, Auto, &ipv6, "[fd00::2]:51820"),
        ] {
            assert_eq!(
                found(family, mode, its),
                Ok(endpoint.to_owned()),
                "{mode:?}"
            );
        }
        let error = found(v6, Separate, &ipv4).unwrap_err();
        assert_eq!(error, "it names no public IPv6 address");
        let same_key = node(1, &["10.0.0.2"], [PORT, 51821]);
        let error = found(v4, Separate, &same_key).unwrap_err();
        assert!(error.starts_with("it has this node's own WireGuard key"));
    }

    fn tunnels(nodes: &[(u8, u8, &[u8])]) -> Tunnels {
        let tunnel = |&(key, node, subnets): &(u8, u8, &[u8])| {
            let networks = subnets
                .iter()
                .map(|octet| format!("10.5.{octet}.0/24").parse().unwrap());
            let tunnel = Tunnel {
                endpoint: format!("192.168.64.{node}:51820").parse().unwrap(),
                networks: networks.collect(),
            };
            (PublicKey([key; 32]), tunnel)
        };
        Tunnels(nodes.iter().map(tunnel).collect())
    }

    /// What the kernel makes of settings.
    fn apply(device: &mut Device, settings: &Settings) {
        device.private_key = settings.private_key.or(device.private_key);
        device.listen_port = settings.listen_port.unwrap_or(device.listen_port);
        for change in &settings.peers {
            let at = device
                .peers
                .iter()
                .position(|it| it.public_key == change.public_key);
            if change.remove {
                device.peers.remove(at.unwrap());
                continue;
            }
            for peer in &mut device.peers {
                peer.allowed_ips
                    .retain(|it| !change.allowed_ips.contains(it));
            }
            let at = at.unwrap_or_else(|| {
                device.peers.push(wireguard::Peer {
                    public_key: change.public_key,
                    preshared_key: None,
                    endpoint: None,
                    keepalive: 0,
                    last_handshake: None,
                    received: 0,
                    sent: 0,
                    allowed_ips: Vec::new(),
                });
                device.peers.len() - 1
            });
            let peer = &mut device.peers[at];
            if let Some(key) = change.preshared_key {
                peer.preshared_key = (key.0 != [0; 32]).then_some(key);
            }
            peer.endpoint = change.endpoint.or(peer.endpoint);
            peer.keepalive = change.keepalive.unwrap_or(peer.keepalive);
            if change.replace_allowed_ips {
                peer.allowed_ips.clear();
            }
            peer.allowed_ips.extend(&change.allowed_ips);
        }
    }

    fn settings(have: &Device, want: &Tunnels) -> Option<Settings> {
        let conf = conf(WireguardMode::Separate);
        wireguard_settings(have, KEY, PORT, &conf, want, &BTreeMap::new())
    }

    /// What differs between two states of a device, and what is the same left out.
    fn touched(before: &Tunnels, after: &Tunnels) -> [Tunnels; 2] {
        let of = |one: &Tunnels, other: &Tunnels| {
            let all = one.0.iter();
            let changed = all.filter(|(key, tunnel)| other.0.get(*key) != Some(*tunnel));
            Tunnels(changed.map(|(key, it)| (*key, it.clone())).collect())
        };
        [of(before, after), of(after, before)]
    }

    fn bring_in_line(device: &mut Device, want: &Tunnels) {
        if let Some(settings) = settings(device, want) {
            apply(device, &settings);
        }
    }

    #[test]
    fn a_node_that_has_wandered_is_left_where_it_is() {
        let want = tunnels(&[(3, 3, &[34])]);
        let mut device = Device::default();
        bring_in_line(&mut device, &want);
        device.peers[0].endpoint = Some("192.168.64.99:1024".parse().unwrap());
        let conf = conf(WireguardMode::Separate);
        let again = |want: &Tunnels, told: &Tunnels| {
            wireguard_settings(&device, KEY, PORT, &conf, want, &told.endpoints())
        };
        assert_eq!(again(&want, &want), None);
        let moved = tunnels(&[(3, 4, &[34])]);
        let change = again(&moved, &want).unwrap();
        let endpoint = change.peers[0].endpoint.unwrap();
        assert_eq!(endpoint.to_string(), "192.168.64.4:51820");
        assert_eq!(change.peers[0].allowed_ips, []);
    }

    #[test]
    fn the_common_key_comes_and_goes() {
        let want = tunnels(&[(3, 3, &[34])]);
        let mut device = Device::default();
        bring_in_line(&mut device, &want);
        let with_psk = WireguardConf {
            psk: Some(SecretKey([9; 32])),
            keepalive: 25,
            ..conf(WireguardMode::Separate)
        };
        let told = want.endpoints();
        let change = wireguard_settings(&device, KEY, PORT, &with_psk, &want, &told).unwrap();
        assert_eq!((change.private_key, change.listen_port), (None, None));
        apply(&mut device, &change);
        assert_eq!(device.peers[0].preshared_key, with_psk.psk);
        assert_eq!(device.peers[0].keepalive, 25);
        bring_in_line(&mut device, &want);
        assert_eq!(device.peers[0].preshared_key, None);
        assert_eq!(device.peers[0].keepalive, 0);
    }

    type Nodes = BTreeMap<u8, (u8, BTreeSet<u8>)>;

    /// Every subnet is one node's.
    fn some_nodes() -> impl Strategy<Value = Nodes> {
        prop::collection::btree_map(2..9u8, (1..5u8, 2..6u8), 0..8).prop_map(|owners| {
            let mut nodes = Nodes::new();
            for (octet, (node, key)) in owners {
                let node = nodes.entry(key).or_insert((node, BTreeSet::new()));
                node.1.insert(octet);
            }
            nodes
        })
    }

    proptest! {
        #[test]
        fn the_changes_lead_to_what_is_wanted(before in some_nodes(), after in some_nodes()) {
            let tunnels = |nodes: Nodes| {
                let nodes: Vec<_> = nodes
                    .into_iter()
                    .map(|(key, (node, subnets))| (key, node, Vec::from_iter(subnets)))
                    .collect();
                let nodes: Vec<_> = nodes.iter().map(|(key, node, it)| (*key, *node, &it[..])).collect();
                self::tunnels(&nodes)
            };
            let mut device = Device::default();
            let [before, after] = [tunnels(before), tunnels(after)];
            bring_in_line(&mut device, &before);
            let mut other = device.clone();
            let [gone, new] = touched(&before, &after);
            let changes = tunnel_changes(&conf(WireguardMode::Separate), &gone, &new);
            let all = settings(&device, &after);
            prop_assert_eq!(changes.is_some(), all.is_some());
            apply(&mut other, &changes.unwrap_or_default());
            prop_assert_eq!(settings(&other, &after), None);
            for want in [before, after] {
                bring_in_line(&mut device, &want);
                let standing = device.peers.iter().map(|peer| {
                    let networks = peer.allowed_ips.iter().copied().collect();
                    (peer.public_key, Tunnel { endpoint: peer.endpoint.unwrap(), networks })
                });
                prop_assert_eq!(Tunnels(standing.collect()), want.clone());
                prop_assert_eq!(settings(&device, &want), None);
            }
        }
    }
}
