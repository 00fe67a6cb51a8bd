//! What `flannel-agent check` shows.

use std::{fmt, net::IpAddr};

use ipnetwork::IpNetwork;
use serde::Serialize;

use super::status::write_table;

/// What probing all other nodes has shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The MTU that pods have, in bytes, so that packets of this size have to pass.
    pub wanted_mtu: u32,
    /// The other nodes.
    pub peers: Vec<PeerCheck>,
}

/// What probing a node has shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeerCheck {
    /// Its name.
    pub node: String,
    /// Its subnet.
    pub subnet: IpNetwork,
    /// What was probed.
    pub probed: IpAddr,
    /// How many packets were sent.
    pub sent: u32,
    /// How many of them were not answered.
    pub lost: u32,
    /// The shortest time until an answer, in microseconds.
    pub latency: Option<u64>,
    /// The largest packet that passes there and back, in bytes; no larger ones than wanted are tried.
    pub mtu: Option<u32>,
}

// === impl Check ===

impl Check {
    /// Whether every node answers, to packets of any size that pods send.
    pub fn is_well(&self) -> bool {
        let mut peers = self.peers.iter();
        peers.all(|it| it.lost < it.sent && it.mtu.is_some_and(|mtu| mtu >= self.wanted_mtu))
    }

    fn row(&self, peer: &PeerCheck) -> [String; 6] {
        let result = match peer.mtu {
            _ if peer.lost == peer.sent => "lost".to_owned(),
            Some(mtu) if mtu >= self.wanted_mtu => "ok".to_owned(),
            _ => format!("MTU is less than {}", self.wanted_mtu),
        };
        let none = || "-".to_owned();
        [
            peer.node.clone(),
            peer.probed.to_string(),
            format!("{}/{}", peer.lost, peer.sent),
            peer.latency
                .map_or_else(none, |it| format!("{}.{:03} ms", it / 1000, it % 1000)),
            peer.mtu.map_or_else(none, |mtu| mtu.to_string()),
            result,
        ]
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["NODE", "PROBED", "LOST", "LATENCY", "MTU", "RESULT"];
        let mut rows = vec![head.map(str::to_owned)];
        rows.extend(self.peers.iter().map(|peer| self.row(peer)));
        write_table(f, &rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(lost: u32, mtu: Option<u32>) -> PeerCheck {
        PeerCheck {
            node: "node2".into(),
            subnet: "10.5.2.0/24".parse().unwrap(),
            probed: [10, 5, 2, 0].into(),
            sent: 5,
            lost,
            latency: mtu.map(|_| 1042),
            mtu,
        }
    }

    #[test]
    fn a_lost_node_and_a_small_mtu_are_not_well() {
        for (peer, is_well, row) in [
            (
                peer(0, Some(1450)),
                true,
                "node2  10.5.2.0  0/5   1.042 ms  1450  ok",
            ),
            (
                peer(4, Some(1450)),
                true,
                "node2  10.5.2.0  4/5   1.042 ms  1450  ok",
            ),
            (
                peer(0, Some(1400)),
                false,
                "node2  10.5.2.0  0/5   1.042 ms  1400  MTU is less than 1450",
            ),
            (
                peer(5, None),
                false,
                "node2  10.5.2.0  5/5   -        -    lost",
            ),
        ] {
            let check = Check {
                wanted_mtu: 1450,
                peers: vec![peer],
            };
            assert_eq!(check.is_well(), is_well);
            assert_eq!(check.to_string().lines().last(), Some(row));
        }
    }
}
