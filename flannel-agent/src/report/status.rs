//! What `flannel-agent status` shows.

use std::{fmt, net::IpAddr, time::Duration};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

/// The overlay as one node has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// This node's subnets.
    pub subnets: Vec<IpNetwork>,
    /// The addresses that others send to.
    pub addresses: Vec<IpAddr>,
    /// MTU for pods in bytes.
    pub mtu: u32,
    /// What keeps the kernel from being as it should, if something does.
    pub failures: Vec<String>,
    /// The other nodes, by their subnets.
    pub peers: Vec<PeerStatus>,
}

/// Another node's subnet of one family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Name of its Node in Kubernetes, or of its lease in etcd.
    pub node: String,
    /// Its subnet.
    pub subnet: IpNetwork,
    /// Its address in the underlay.
    pub address: IpAddr,
    /// The addresses that its kernel answers for over the overlay, those that tell most first.
    pub probes: Vec<IpAddr>,
    /// The Ethernet address of its VXLAN endpoint, where it is reached by one.
    pub mac: Option<String>,
    /// What would have to be done for it to be reached, by commands of iproute2; empty where all stands.
    pub missing: Vec<String>,
    /// When what is known of it last changed, in seconds since 1970.
    pub changed: u64,
}

/// A [`Status`] as a table, at a time since 1970.
pub struct StatusTable<'a>(pub &'a Status, pub Duration);

// === impl StatusTable ===

impl StatusTable<'_> {
    fn row(&self, peer: &PeerStatus) -> [String; 6] {
        [
            peer.node.clone(),
            peer.subnet.to_string(),
            peer.address.to_string(),
            peer.mac.clone().unwrap_or_else(|| "-".into()),
            match peer.missing.len() {
                0 => "ok".into(),
                count => format!("{count} missing"),
            },
            format!("{} ago", age(self.1.as_secs().saturating_sub(peer.changed))),
        ]
    }
}

impl fmt::Display for StatusTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(status, _) = self;
        let (subnets, addresses) = (joined(&status.subnets), joined(&status.addresses));
        writeln!(f, "this node: {subnets} at {addresses}, MTU {}", status.mtu)?;
        for failure in &status.failures {
            writeln!(f, "failing: {failure}")?;
        }
        let head = ["NODE", "SUBNET", "ADDRESS", "VTEP MAC", "KERNEL", "CHANGED"];
        let mut rows = vec![head.map(str::to_owned)];
        rows.extend(status.peers.iter().map(|peer| self.row(peer)));
        write_table(f, &rows)?;
        for peer in status.peers.iter() {
            for missing in &peer.missing {
                writeln!(f, "missing for {}: {missing}", peer.node)?;
            }
        }
        Ok(())
    }
}

/// Rows as columns, each as wide as its widest cell.
pub(super) fn write_table<const N: usize>(
    f: &mut fmt::Formatter<'_>,
    rows: &[[String; N]],
) -> fmt::Result {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max();
    let widths: [usize; N] = std::array::from_fn(|column| width(column).unwrap_or_default());
    for row in rows {
        let cells = row.iter().zip(widths);
        let cells: Vec<_> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        writeln!(f, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

fn joined<T: fmt::Display>(all: &[T]) -> String {
    let texts: Vec<_> = all.iter().map(T::to_string).collect();
    texts.join(", ")
}

fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_what_is_missing() {
        let peer = |number: u8, missing: &[&str]| PeerStatus {
            node: format!("node{number}"),
            subnet: format!("10.5.{number}.0/24").parse().unwrap(),
            address: [192, 168, 64, number].into(),
            probes: vec![[10, 5, number, 0].into()],
            mac: (number == 2).then(|| "c6:d2:32:6f:8f:44".into()),
            missing: missing.iter().map(|&it| it.to_owned()).collect(),
            changed: 1000,
        };
        let status = Status {
            subnets: vec!["10.5.1.0/24".parse().unwrap()],
            addresses: vec![[192, 168, 64, 1].into()],
            mtu: 1450,
            failures: vec!["Network is down".into()],
            peers: vec![peer(2, &[]), peer(13, &["ip route replace x"])],
        };
        assert_eq!(
            StatusTable(&status, Duration::from_secs(1300)).to_string(),
            "this node: 10.5.1.0/24 at 192.168.64.1, MTU 1450\n\
             failing: Network is down\n\
             NODE    SUBNET        ADDRESS        VTEP MAC           KERNEL     CHANGED\n\
             node2   10.5.2.0/24   192.168.64.2   c6:d2:32:6f:8f:44  ok         5m ago\n\
             node13  10.5.13.0/24  192.168.64.13  -                  1 missing  5m ago\n\
             missing for node13: ip route replace x\n"
        );
    }
}
