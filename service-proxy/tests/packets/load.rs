//! Connections that stay open, and new ones all the time, while something happens to the proxy: none may be lost.
//!
//! `TWEED_LOAD_OPEN` is the number of open connections, `TWEED_LOAD_RATE` that of new ones a second.

use std::{
    env,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use kernel::{Family, sysctl};

use crate::{
    network::{Network, Place},
    server::{self, Connection, Transport},
    web,
};

/// How many make new connections at once.
const CLIENTS: u32 = 8;

/// Which ports a client connects from, and all that it may: the kernel goes through them in steps of about nine. Where
/// it used one again within two minutes, IPVS could take the new connection's entry in conntrack for that of an old
/// one that it has translated, and remove it, whatever translates by then.
const PORT_RANGE: &str = "net/ipv4/ip_local_port_range";
const PORTS: &str = "1024 65535";

/// Ends the clients, also where the test fails.
pub struct End<'a>(pub &'a AtomicBool);

// === impl End ===

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Does something to a node that serves [`web`], while a client makes connections to it. The work gets those that
/// were opened before, to see whether they are still there. Prints the count, and fails if one was refused.
pub fn under_load(network: &Network, family: Family, work: impl FnOnce(&mut [Connection])) {
    let to = web(family).socket();
    let client = network.namespace(Place::Client);
    let range = client.run(|| sysctl::set(PORT_RANGE, PORTS)).unwrap();
    range.unwrap();
    let open = setting("TWEED_LOAD_OPEN", 20);
    let mut open: Vec<_> = (0..open)
        .map(|_| network.connect(Place::Client, to))
        .collect();
    let rate = setting("TWEED_LOAD_RATE", 40);
    let end = AtomicBool::new(false);
    let started = Instant::now();
    let asked: u32 = thread::scope(|scope| {
        let client = || scope.spawn(|| keep_asking(network, family, rate, &end));
        let clients: Vec<_> = (0..CLIENTS).map(|_| client()).collect();
        let ending = End(&end);
        work(&mut open);
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

/// A number from the environment.
pub fn setting(name: &str, default: u32) -> u32 {
    env::var(name).map_or(default, |text| text.parse().unwrap())
}
