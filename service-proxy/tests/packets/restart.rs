//! Restarts in the middle of traffic (F42): no connection is lost, neither open nor new.

use kernel::Family;

use crate::{load::under_load, network::Network, proxy::Proxy, server::Connection, web};

fn no_connection_is_lost_to_a_restart(family: Family) {
    let network = Network::new();
    network.write(&web(family));
    let mut proxy = Proxy::start(&network);
    under_load(&network, family, |open| {
        for stop in [Proxy::kill, Proxy::terminate] {
            stop(&mut proxy);
            open.iter_mut().for_each(Connection::assert_echoes);
            proxy = Proxy::start(&network);
            open.iter_mut().for_each(Connection::assert_echoes);
        }
    });
}

#[test]
fn no_connection_is_lost_to_a_restart_v4() {
    no_connection_is_lost_to_a_restart(Family::V4);
}

#[test]
fn no_connection_is_lost_to_a_restart_v6() {
    no_connection_is_lost_to_a_restart(Family::V6);
}
