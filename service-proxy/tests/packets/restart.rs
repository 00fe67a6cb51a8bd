//! Restarts in the middle of traffic (F42): no connection is lost, neither open nor new.
//!
//! `TWEED_RESTART_OPEN` is the number of open connections, `TWEED_RESTART_RATE` that of new ones a second.

use std::{
    env,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use kernel::Family;

use crate::{
    network::{Network, Place},
    proxy::Proxy,
    server::{self, Connection, Transport},
    web,
};

/// How many make new connections at once.
const CLIENTS: u32 = 8;

/// Ends the clients, also where the test fails.
pub struct End<'a>(pub &'a AtomicBool);

// === impl End ===

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn setting(name: &str, default: u32) -> u32 {
    env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Makes connections until the end, each a while after the one before; answers with their number.
fn keep_asking(network: &Network, family: Family, rate: u32, end: &AtomicBool) -> u32 {
    let to = web(family).socket();
    let pause = Duration::from_secs(1) * CLIENTS / rate;
    let ask = || {
        let mut asked = 0;
        let mut next = Instant::now();
        while !end.load(Ordering::Relaxed) {
            thread::sleep(next.saturating_duration_since(Instant::now()));
            next += pause;
            server::ask(Transport::Tcp, to).unwrap();
            asked += 1;
        }
        asked
    };
    network.namespace(Place::Client).run(ask).unwrap()
}

fn no_connection_is_lost_to_a_restart(family: Family) {
    let network = Network::new();
    network.write(&web(family));
    let mut proxy = Proxy::start(&network);
    let to = web(family).socket();
    let open = setting("TWEED_RESTART_OPEN", 20);
    let mut open: Vec<_> = (0..open)
        .map(|_| network.connect(Place::Client, to))
        .collect();
    let rate = setting("TWEED_RESTART_RATE", 40);
    let end = AtomicBool::new(false);
    let started = Instant::now();
    let asked: u32 = thread::scope(|scope| {
        let client = || scope.spawn(|| keep_asking(&network, family, rate, &end));
        let clients: Vec<_> = (0..CLIENTS).map(|_| client()).collect();
        let ending = End(&end);
        for stop in [Proxy::kill, Proxy::terminate] {
            stop(&mut proxy);
            open.iter_mut().for_each(Connection::assert_echoes);
            proxy = Proxy::start(&network);
            open.iter_mut().for_each(Connection::assert_echoes);
        }
        drop(ending);
        let asked = clients.into_iter().map(|client| client.join().unwrap());
        asked.sum()
    });
    println!(
        "{} connections stayed open and {asked} were made in {:?}: none was lost",
        open.len(),
        started.elapsed()
    );
    assert!(asked >= CLIENTS);
}

#[test]
fn no_connection_is_lost_to_a_restart_v4() {
    no_connection_is_lost_to_a_restart(Family::V4);
}

#[test]
fn no_connection_is_lost_to_a_restart_v6() {
    no_connection_is_lost_to_a_restart(Family::V6);
}
