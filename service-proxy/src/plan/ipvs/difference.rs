//! What makes the virtual servers that stand those that should.

use kernel::ipvs::{Change, RealServer, VirtualAddress};

use super::virtuals::{Real, Virtual, Virtuals, drains};

/// What has to be changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// The changes in their order: nothing is taken away before what comes in its place is there.
    pub changes: Vec<Change>,
    /// The virtual servers with real servers that are wanted no longer and have connections still, and these
    /// alone. They get no new ones.
    pub leaving: Virtuals,
}

// === impl Difference ===

impl Difference {
    fn leave(&mut self, address: &VirtualAddress, have: &Virtual, want: Option<&Virtual>) {
        let unwanted = have
            .reals
            .iter()
            .filter(|(socket, _)| want.is_none_or(|want| !want.reals.contains_key(*socket)));
        let (ending, ended): (Vec<_>, Vec<_>) =
            unwanted.partition(|(_, real)| drains(&have.server) && !real.idle);
        if want.is_none() && ending.is_empty() {
            // With all its real servers.
            return self.changes.push(Change::DeleteVirtual(*address));
        }
        let weightless = |real: &Real| RealServer {
            weight: 0,
            ..real.server
        };
        for (_, real) in ending.iter().filter(|(_, real)| real.server.weight != 0) {
            self.changes
                .push(Change::SetReal(*address, weightless(real)));
        }
        for (socket, _) in ended {
            self.changes.push(Change::DeleteReal(*address, *socket));
        }
        if !ending.is_empty() {
            let reals = ending.into_iter().map(|(socket, real)| {
                let real = Real {
                    server: weightless(real),
                    ..*real
                };
                (*socket, real)
            });
            let server = want.unwrap_or(have).server.clone();
            let reals = reals.collect();
            self.leaving.insert(*address, Virtual { server, reals });
        }
    }
}

/// What turns virtual servers into others. A real server that connections keep stays without weight.
pub fn difference(have: &Virtuals, want: &Virtuals) -> Difference {
    let mut difference = Difference::default();
    for (address, want) in want {
        let have = have.get(address);
        difference.changes.extend(additions(address, have, want));
        if let Some(have) = have {
            difference.leave(address, have, Some(want));
        }
    }
    for (address, have) in have {
        if !want.contains_key(address) {
            difference.leave(address, have, None);
        }
    }
    difference
}

/// What makes a virtual server have all that it should have, whatever it has besides.
fn additions(address: &VirtualAddress, have: Option<&Virtual>, want: &Virtual) -> Vec<Change> {
    let server = || want.server.clone();
    let settings = match have {
        None => Some(Change::AddVirtual(server())),
        Some(have) if have.server != want.server => Some(Change::SetVirtual(server())),
        Some(_) => None,
    };
    let reals = want.reals.iter().filter_map(|(socket, want)| {
        match have.and_then(|have| have.reals.get(socket)) {
            None => Some(Change::AddReal(*address, want.server)),
            Some(have) if have.server != want.server => {
                Some(Change::SetReal(*address, want.server))
            }
            Some(_) => None,
        }
    });
    settings.into_iter().chain(reals).collect()
}
