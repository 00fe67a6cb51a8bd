//! What a lab consists of: names and addresses, computed from its name and size.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

use anyhow::{Result, ensure};
use ipnetwork::{IpNetwork, Ipv4Network};
use serde::{Deserialize, Serialize};

/// Where labs keep their files, one directory each.
const ROOT: &str = "/run/tweed-lab";
/// The most nodes that fit the underlay's addresses.
const MAX_NODES: u8 = 200;

/// The shape of a lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Its name: lower-case letters and digits.
    pub name: String,
    /// How many nodes it has.
    pub nodes: u8,
    /// The overlay's network, out of which every node leases a subnet.
    pub pod_network: Ipv4Network,
}

/// The shape of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePlan {
    /// Its name: `node1` and so on.
    pub name: String,
    /// Its address on the underlay.
    pub address: Ipv4Addr,
    /// Its files: subnet.env, CNI state, logs.
    pub directory: PathBuf,
}

// === impl Plan ===

impl Plan {
    /// A lab of `nodes` nodes whose pods get addresses of 10.244.0.0/16.
    pub fn new(name: &str, nodes: u8) -> Result<Self> {
        ensure!(
            (1..=20).contains(&name.len())
                && name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()),
            "lab name {name:?}: want 1 to 20 lower-case letters and digits"
        );
        ensure!(
            (1..=MAX_NODES).contains(&nodes),
            "{nodes} nodes: want 1 to {MAX_NODES}"
        );
        Ok(Self {
            name: name.to_owned(),
            nodes,
            pod_network: Ipv4Network::new(Ipv4Addr::new(10, 244, 0, 0), 16)?,
        })
    }

    /// The nodes.
    pub fn nodes(&self) -> impl Iterator<Item = NodePlan> + '_ {
        (1..=self.nodes).map(|number| {
            let name = format!("node{number}");
            NodePlan {
                address: Ipv4Addr::new(10, 8, 65, 10 + number),
                directory: self.directory().join(&name),
                name,
            }
        })
    }

    /// The address of the fabric on the underlay, where etcd listens.
    pub fn fabric_address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 8, 65, 1)
    }

    /// An address of the underlay with its prefix length.
    pub fn on_underlay(&self, address: Ipv4Addr) -> Result<IpNetwork> {
        Ok(IpNetwork::new(IpAddr::V4(address), 24)?)
    }

    /// Where clients find etcd.
    pub fn etcd_endpoint(&self) -> String {
        format!("http://{}:2379", self.fabric_address())
    }

    /// The name of the namespace of one of the lab's hosts.
    pub fn namespace(&self, host: &str) -> String {
        format!("{}{host}", self.namespace_prefix())
    }

    /// What the names of all of the lab's namespaces begin with.
    pub fn namespace_prefix(&self) -> String {
        format!("tweed-{}-", self.name)
    }

    /// The lab's files.
    pub fn directory(&self) -> PathBuf {
        PathBuf::from(ROOT).join(&self.name)
    }

    /// The manifests that every node's service-proxy reads: what stands in for the API server.
    pub fn manifests(&self) -> PathBuf {
        self.directory().join("manifests")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_be_mistaken_are_refused() {
        for name in ["", "a-b", "A", "a/b", "../x", "aaaaaaaaaaaaaaaaaaaaa"] {
            assert!(Plan::new(name, 3).is_err(), "{name:?}");
        }
        assert!(Plan::new("demo", 0).is_err());
    }

    #[test]
    fn nodes_have_distinct_names_and_addresses() {
        let plan = Plan::new("demo", 3).unwrap();
        let nodes: Vec<_> = plan
            .nodes()
            .map(|node| (node.name, node.address.to_string()))
            .collect();
        let want = [
            ("node1", "10.8.65.11"),
            ("node2", "10.8.65.12"),
            ("node3", "10.8.65.13"),
        ];
        assert_eq!(
            nodes,
            want.map(|(name, address)| (name.to_owned(), address.to_owned()))
        );
        assert_eq!(plan.namespace("node1"), "tweed-demo-node1");
    }
}
