//! Real servers that only wait for the end of their connections.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

use kernel::ipvs::{ObservedReal, VirtualAddress, VirtualServer};

use crate::plan::ipvs::{Guard, Plan, Virtual};

/// How often they are looked at.
pub const LOOK: Duration = Duration::from_secs(1);

/// Real servers that only wait for the end of their connections.
#[derive(Debug)]
pub struct Ending {
    /// How long they may; `None`: for as long as connections last.
    patience: Option<Duration>,
    /// Since when they do.
    since: BTreeMap<(VirtualAddress, SocketAddr), Instant>,
    /// Those whose connections are not waited for: the kernel forgets them with the real server.
    cut: BTreeSet<(VirtualAddress, SocketAddr)>,
    look_at: Option<Instant>,
}

// === impl Ending ===

impl Ending {
    /// None yet. They may wait for so long.
    pub fn new(patience: Option<Duration>) -> Self {
        Self {
            patience,
            since: BTreeMap::new(),
            cut: BTreeSet::new(),
            look_at: None,
        }
    }

    /// When they are to be looked at next, if there are any.
    pub fn look_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// Takes in which there are now.
    pub fn note<G: Guard>(&mut self, plans: &[Plan<G>]) {
        let now = Instant::now();
        let mut since = BTreeMap::new();
        for (address, server) in plans.iter().flat_map(Plan::leaving) {
            for socket in server.reals.keys() {
                let key = (*address, *socket);
                let known = self.since.get(&key).copied();
                since.insert(key, known.unwrap_or(now));
            }
        }
        self.look_at = (!since.is_empty()).then(|| now + LOOK);
        self.cut.retain(|key| since.contains_key(key));
        self.since = since;
    }

    /// Waits no longer for the connections of some: the next look, which is due at once, takes them away.
    pub fn cut(&mut self, gone: impl Fn(&VirtualAddress, &SocketAddr) -> bool) {
        let keys = self.since.keys();
        let cut = keys.filter(|(address, socket)| gone(address, socket));
        let before = self.cut.len();
        self.cut.extend(cut.copied());
        if self.cut.len() > before {
            self.look_at = Some(Instant::now());
        }
    }

    /// A virtual server as it stands. Real servers that have waited for too long, or are not waited for, count as
    /// without connections.
    pub fn observed(&self, server: VirtualServer, reals: Vec<ObservedReal>) -> Virtual {
        let address = server.address;
        let mut observed = Virtual::observed(server, reals);
        for (socket, real) in &mut observed.reals {
            let key = (address, *socket);
            let waited = self.since.get(&key).map(Instant::elapsed);
            let too_long = waited
                .zip(self.patience)
                .is_some_and(|(waited, most)| waited >= most);
            real.idle |= too_long || self.cut.contains(&key);
        }
        observed
    }
}
