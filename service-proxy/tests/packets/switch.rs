//! Changes of mode in the middle of traffic, through all modes that the kernel has: no connection is lost, neither
//! open nor new, and nothing of the old mode is left. `TWEED_SWITCH_ROUNDS` is how often they are gone through.

use kernel::{Family, ipvs};

use crate::{
    eventually,
    hot_switch::{self, configure, says},
    iptables::{BOTH, iptables},
    load::{setting, under_load},
    network::{CLUSTER_CIDR, Network, Place},
    proxy::{Mode, Proxy},
    server::Connection,
    web,
};

/// The interface that IPVS mode makes.
pub const INTERFACE: &str = "kube-ipvs0";

/// Whether nothing of the other modes is there. While loopback addresses are routed, what guards them stays; and
/// for connections that IPVS translates, of which the kernel remembers those that have ended for two minutes,
/// so do their virtual servers and the addresses of these.
pub fn is_alone(network: &Network, mode: Mode) -> bool {
    let others = BOTH.into_iter().filter(|other| *other != mode);
    let chains = others.map(|other| iptables(network, other, "-save", ""));
    let chains: String = chains.collect();
    let chains = chains.replace(":KUBE-FIREWALL", "").contains(":KUBE");
    let table = network.nft("list tables").contains("tweed-proxy");
    !chains && table == (mode == Mode::Nftables)
}

/// Whether the kernel of the test has virtual servers.
pub fn has_ipvs(network: &Network) -> bool {
    match ipvs::Handle::open_in(network.namespace(Place::Node)) {
        Ok(_) => true,
        Err(ipvs::CannotOpen::NotInKernel(_)) => false,
        Err(error) => panic!("{error}"),
    }
}

/// From nftables through some modes and back, as far as the kernel has them, as often as is asked for.
fn rounds(network: &Network, modes: &[Mode]) -> Vec<Mode> {
    let known = |mode: &Mode| *mode != Mode::Ipvs || has_ipvs(network);
    let modes = modes.iter().copied().filter(known);
    let round: Vec<_> = modes.chain([Mode::Nftables]).collect();
    round.repeat(setting("TWEED_SWITCH_ROUNDS", 1) as usize)
}

/// By restart: the proxy in the other mode takes over from one that has ended.
fn no_connection_is_lost_to_a_restart_in_another_mode(family: Family) {
    let network = Network::new();
    network.write(&web(family));
    let start = |mode| Proxy::start_in(mode, &network, &["--cluster-cidr", CLUSTER_CIDR]);
    let mut proxy = start(Mode::Nftables);
    under_load(&network, family, |open| {
        for mode in rounds(&network, &[Mode::Nft, Mode::Ipvs, Mode::Legacy]) {
            proxy.terminate();
            open.iter_mut().for_each(Connection::assert_echoes);
            proxy = start(mode);
            eventually("the other modes to be gone", || is_alone(&network, mode));
            open.iter_mut().for_each(Connection::assert_echoes);
        }
    });
}

#[test]
fn no_connection_is_lost_to_a_restart_in_another_mode_v4() {
    no_connection_is_lost_to_a_restart_in_another_mode(Family::V4);
}

#[test]
fn no_connection_is_lost_to_a_restart_in_another_mode_v6() {
    no_connection_is_lost_to_a_restart_in_another_mode(Family::V6);
}

/// By the configuration's file, with either kind of iptables: IPVS after it, or right after nftables.
fn no_connection_is_lost_to_another_mode_in_the_file(backend: Mode, modes: [Mode; 2]) {
    let network = Network::new();
    network.write(&web(Family::V4));
    configure(&network, &says(Mode::Nftables));
    let _proxy = hot_switch::start(&network, Mode::Nftables, backend);
    under_load(&network, Family::V4, |open| {
        for mode in rounds(&network, &modes) {
            configure(&network, &says(mode));
            eventually("the other modes to be gone", || is_alone(&network, mode));
            open.iter_mut().for_each(Connection::assert_echoes);
        }
    });
}

#[test]
fn no_connection_is_lost_to_another_mode_in_the_file_nft() {
    no_connection_is_lost_to_another_mode_in_the_file(Mode::Nft, [Mode::Nft, Mode::Ipvs]);
}

#[test]
fn no_connection_is_lost_to_another_mode_in_the_file_legacy() {
    no_connection_is_lost_to_another_mode_in_the_file(Mode::Legacy, [Mode::Ipvs, Mode::Legacy]);
}
