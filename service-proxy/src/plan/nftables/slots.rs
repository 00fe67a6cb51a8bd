//! Which slot an endpoint has.
//!
//! Slots are numbered without gaps, so that one is drawn by a random number. An endpoint keeps its slot
//! while it can: where one goes, the last one moves into its place, and a change costs as many elements as
//! there are endpoints that changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use crate::plan::Backend;

/// Address and port of an endpoint.
pub type Socket = (IpAddr, u16);

/// Puts endpoints in the order of their slots, by the slots that they or others had before.
pub fn settle(before: impl IntoIterator<Item = (usize, Socket)>, now: &mut Vec<Backend>) {
    let mut slots: Vec<Option<Backend>> = vec![None; now.len()];
    let by_socket: BTreeMap<Socket, Backend> = now
        .iter()
        .map(|backend| (socket(backend), *backend))
        .collect();
    let mut settled = BTreeSet::new();
    for (slot, socket) in before {
        let slot = slots.get_mut(slot).filter(|slot| slot.is_none());
        if let (Some(slot), Some(backend)) = (slot, by_socket.get(&socket))
            && settled.insert(socket)
        {
            *slot = Some(*backend);
        }
    }
    let mut others = now
        .iter()
        .copied()
        .filter(|backend| !settled.contains(&socket(backend)));
    let ordered: Vec<_> = slots
        .into_iter()
        .filter_map(|slot| slot.or_else(|| others.next()))
        .collect();
    *now = ordered;
}

/// Lets endpoints keep the slots that they had.
pub fn keep(before: &[Backend], now: &mut Vec<Backend>) {
    settle(before.iter().map(socket).enumerate(), now);
}

/// What names an endpoint.
pub fn socket(backend: &Backend) -> Socket {
    (backend.address, backend.port)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn backends(hosts: &[u8]) -> Vec<Backend> {
        let backend = |host: &u8| Backend {
            address: [10, 0, 0, *host].into(),
            port: 80,
            here: false,
        };
        hosts.iter().map(backend).collect()
    }

    #[test]
    fn endpoints_keep_their_slots() {
        for (before, now, expected) in [
            (&[][..], &[1, 2, 3][..], &[1, 2, 3][..]),
            (&[3, 1, 2], &[1, 2, 3], &[3, 1, 2]),
            // The last one moves into the hole.
            (&[1, 2, 3, 4], &[1, 3, 4], &[1, 4, 3]),
            (&[1, 2, 3, 4], &[3, 4], &[3, 4]),
            (&[1, 2, 3, 4], &[1, 2, 3], &[1, 2, 3]),
            // New ones come behind the others, or into holes.
            (&[2, 3], &[1, 2, 3], &[2, 3, 1]),
            (&[1, 2, 3], &[1, 3, 4], &[1, 4, 3]),
            (&[1, 2], &[], &[]),
            // Rubbish that somebody wrote into the kernel.
            (&[1, 1, 9], &[1, 2], &[1, 2]),
        ] {
            let mut settled = backends(now);
            keep(&backends(before), &mut settled);
            assert_eq!(settled, backends(expected), "{before:?} {now:?}");
        }
    }
}
