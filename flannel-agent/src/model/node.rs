//! What a Node of Kubernetes says about its part of the overlay (spec 1.10).

use std::{collections::BTreeMap, net::IpAddr};

use ipnetwork::IpNetwork;
use kernel::{Family, Mac};
use serde_json::{Value, json};

use super::{Attributes, BackendData, ByFamily, InvalidLease, Lease, LeaseKey};

/// A Node, as far as it concerns the overlay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Which of the Nodes that had this name it is (`metadata.uid`).
    pub uid: String,
    /// `spec.podCIDRs`, or `spec.podCIDR` where there is only that.
    pub pod_cidrs: Vec<String>,
    /// Its annotations of flannel's, by their names without the prefix.
    pub annotations: BTreeMap<String, String>,
    /// Status and reason of its condition `NetworkUnavailable`.
    pub network_unavailable: Option<(String, String)>,
}

/// Why a Node has no subnets that the agent could use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSubnet {
    /// Nobody has given it any. The text is flannel's.
    #[error("node {0:?} pod cidr not assigned")]
    NotAssigned(String),
    /// Not one of each family at the most. The text is flannel's.
    #[error("node {0:?} pod cidrs should be IPv4/IPv6 only or dualstack")]
    TooMany(String),
    /// Not a network.
    #[error("node {node:?} has the podCIDR {text:?}, which is no network")]
    NotANetwork {
        /// The Node.
        node: String,
        /// The text.
        text: String,
    },
    /// None of a family that the network has.
    #[error("node {node:?} has no {family} podCIDR, but the network has {family}")]
    NoneOf {
        /// The Node.
        node: String,
        /// The family.
        family: Family,
    },
    /// Not a part of the network. The text is flannel's.
    #[error(
        "subnet \"{network}\" specified in the flannel net config doesn't contain \"{subnet}\" PodCIDR of \
         the {node:?} node"
    )]
    Outside {
        /// The network.
        network: IpNetwork,
        /// What is not in it.
        subnet: IpNetwork,
        /// The Node.
        node: String,
    },
}

/// Names of annotations, without the prefix.
pub mod annotation {
    use kernel::Family;

    /// `"true"` where an agent keeps the annotations.
    pub const MANAGED: &str = "kube-subnet-manager";
    /// Name of the backend.
    pub const BACKEND_TYPE: &str = "backend-type";

    /// What the backend tells peers, in JSON.
    pub const fn backend_data(family: Family) -> &'static str {
        match family {
            Family::V4 => "backend-data",
            Family::V6 => "backend-v6-data",
        }
    }

    /// The address that peers send to.
    pub const fn public_ip(family: Family) -> &'static str {
        match family {
            Family::V4 => "public-ip",
            Family::V6 => "public-ipv6",
        }
    }

    /// The address that an operator wants written there.
    pub const fn public_ip_overwrite(family: Family) -> &'static str {
        match family {
            Family::V4 => "public-ip-overwrite",
            Family::V6 => "public-ipv6-overwrite",
        }
    }

    /// What an operator gives in place of `--public-ip`.
    pub const fn node_public_ip(family: Family) -> &'static str {
        match family {
            Family::V4 => "node-public-ip",
            Family::V6 => "node-public-ipv6",
        }
    }
}

// === impl Node ===

impl Node {
    /// Its lease, if an agent keeps one for it.
    pub fn lease(&self) -> Option<Result<Lease, InvalidLease>> {
        if self.annotation(annotation::MANAGED) != Some("true") {
            return None;
        }
        let lease = || {
            let subnets = self.subnets().map_err(|error| error.to_string())?;
            Ok(Lease {
                key: LeaseKey::from(subnets),
                attributes: self.attributes()?,
            })
        };
        Some(lease().map_err(InvalidLease::Node))
    }

    /// The subnets of the network's families.
    pub fn own_subnets(
        &self,
        networks: &ByFamily<IpNetwork>,
    ) -> Result<ByFamily<IpNetwork>, NoSubnet> {
        let all = self.subnets()?;
        let mut own = ByFamily::default();
        for (family, network) in networks.iter() {
            let subnet = *all.get(family).ok_or_else(|| NoSubnet::NoneOf {
                node: self.name.clone(),
                family,
            })?;
            if network.prefix() > subnet.prefix() || !network.contains(subnet.network()) {
                return Err(NoSubnet::Outside {
                    network: *network,
                    subnet,
                    node: self.name.clone(),
                });
            }
            own.insert(family, subnet);
        }
        Ok(own)
    }

    /// The Ethernet addresses that peers know the node's tunnel endpoints by.
    pub fn macs(&self) -> ByFamily<Mac> {
        let Ok(Attributes {
            backend: BackendData::Vxlan(vteps),
            ..
        }) = self.attributes()
        else {
            return ByFamily::default();
        };
        vteps
            .iter()
            .map(|(family, vtep)| (family, vtep.mac))
            .collect()
    }

    /// The public addresses that an operator has given to the node.
    pub fn given_public(&self) -> ByFamily<IpAddr> {
        let given = |family| {
            let text = self.annotation(annotation::node_public_ip(family))?;
            let address: IpAddr = text.parse().ok()?;
            (Family::of(&address) == family).then_some((family, address))
        };
        Family::ALL.into_iter().filter_map(given).collect()
    }

    /// An annotation that is not empty.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        let text = self.annotations.get(name)?;
        (!text.is_empty()).then_some(text)
    }

    fn subnets(&self) -> Result<ByFamily<IpNetwork>, NoSubnet> {
        let mut subnets = ByFamily::default();
        for text in &self.pod_cidrs {
            let subnet: Option<IpNetwork> = text
                .parse()
                .ok()
                .and_then(|it: IpNetwork| IpNetwork::new(it.network(), it.prefix()).ok());
            let subnet = subnet.ok_or_else(|| NoSubnet::NotANetwork {
                node: self.name.clone(),
                text: text.clone(),
            })?;
            let family = Family::of_network(&subnet);
            if subnets.get(family).is_some() {
                return Err(NoSubnet::TooMany(self.name.clone()));
            }
            subnets.insert(family, subnet);
        }
        if subnets.is_empty() {
            return Err(NoSubnet::NotAssigned(self.name.clone()));
        }
        Ok(subnets)
    }

    /// The same as stands in etcd as one value.
    fn attributes(&self) -> Result<Attributes, String> {
        let data = |family| {
            let name = annotation::backend_data(family);
            match self.annotation(name) {
                None => Ok(Value::Null),
                Some(text) => {
                    serde_json::from_str(text).map_err(|error| format!("{name}: {error}"))
                }
            }
        };
        let public = |family| self.annotation(annotation::public_ip(family));
        let value = json!({
            "PublicIP": public(Family::V4),
            "PublicIPv6": public(Family::V6),
            "BackendType": self.annotation(annotation::BACKEND_TYPE).unwrap_or_default(),
            "BackendData": data(Family::V4)?,
            "BackendV6Data": data(Family::V6)?,
        });
        Attributes::parse(value.to_string().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    fn node(pod_cidrs: &[&str], annotations: &[(&str, &str)]) -> Node {
        let annotation = |&(name, text): &(&str, &str)| (name.to_owned(), text.to_owned());
        Node {
            name: "n1".into(),
            pod_cidrs: pod_cidrs.iter().map(|&it| it.to_owned()).collect(),
            annotations: annotations.iter().map(annotation).collect(),
            ..Node::default()
        }
    }

    const GO: [(&str, &str); 4] = [
        ("kube-subnet-manager", "true"),
        ("backend-type", "vxlan"),
        ("backend-data", r#"{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}"#),
        ("public-ip", "192.168.64.3"),
    ];

    fn networks(texts: &[&str]) -> ByFamily<IpNetwork> {
        let networks = texts.iter().map(|it| it.parse::<IpNetwork>().unwrap());
        networks.map(|it| (Family::of_network(&it), it)).collect()
    }

    #[test]
    fn what_flannel_has_written_is_a_lease() {
        let lease = node(&["10.244.3.0/24"], &GO).lease().unwrap().unwrap();
        assert_eq!(
            lease,
            Lease::parse(
                "10.244.3.0-24",
                br#"{"PublicIP":"192.168.64.3","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}}"#
            )
            .unwrap()
        );
        let macs = node(&[], &GO).macs();
        assert_eq!(
            macs.get(Family::V4).unwrap().to_string(),
            "c6:d2:32:6f:8f:44"
        );
        assert_eq!(node(&["10.244.3.0/24"], &GO[1..]).lease(), None);
    }

    #[test]
    fn a_bad_node_says_why() {
        for (pod_cidrs, changed, why) in [
            (&[][..], ("", ""), "node \"n1\" pod cidr not assigned"),
            (
                &["x"],
                ("", ""),
                "node \"n1\" has the podCIDR \"x\", which is no network",
            ),
            (
                &["10.244.1.0/24", "10.244.2.0/24"],
                ("", ""),
                "node \"n1\" pod cidrs should be IPv4/IPv6 only or dualstack",
            ),
            (
                &["10.244.1.0/24"],
                ("backend-data", "{"),
                "backend-data: EOF",
            ),
            (
                &["10.244.1.0/24"],
                ("public-ip", "x"),
                "invalid IPv4 address",
            ),
        ] {
            let mut node = node(pod_cidrs, &GO);
            node.annotations.insert(changed.0.into(), changed.1.into());
            let error = node.lease().unwrap().unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn own_subnets_are_those_of_the_networks_families() {
        let dual = node(&["10.244.3.0/24", "fd00:244:3::/64"], &[]);
        let own = |node: &Node, texts: &[&str]| {
            let subnets = node.own_subnets(&networks(texts));
            subnets
                .map(|it| LeaseKey::from(it).to_string())
                .map_err(|error| error.to_string())
        };
        assert_eq!(own(&dual, &["10.244.0.0/16"]).unwrap(), "10.244.3.0-24");
        assert_eq!(
            own(&dual, &["10.244.0.0/16", "fd00:244::/48"]).unwrap_err(),
            "subnet \"fd00:244::/48\" specified in the flannel net config doesn't contain \
             \"fd00:244:3::/64\" PodCIDR of the \"n1\" node"
        );
        assert_eq!(
            own(&dual, &["10.244.0.0/16", "fd00:244::/32"]).unwrap(),
            "10.244.3.0-24&fd00:244:3::-64"
        );
        let single = node(&["10.244.3.0/24"], &[]);
        assert_eq!(
            own(&single, &["10.244.0.0/16", "fd00:244::/32"]).unwrap_err(),
            "node \"n1\" has no IPv6 podCIDR, but the network has IPv6"
        );
    }

    #[test]
    fn operators_public_addresses_are_of_their_family() {
        let given = node(
            &[],
            &[
                ("node-public-ip", "203.0.113.1"),
                ("node-public-ipv6", "203.0.113.1"),
            ],
        )
        .given_public();
        let all: Vec<_> = given
            .iter()
            .map(|(_, address)| address.to_string())
            .collect();
        assert_eq!(all, ["203.0.113.1"]);
    }

    /// What annotations and networks may say, and what is just outside of it.
    fn said() -> impl Strategy<Value = String> {
        let words = [
            "true",
            "vxlan",
            "wireguard",
            "ipip",
            "host-gw",
            "null",
            "{}",
            "[]",
            "10.244.3.0/24",
            "10.244.3.9/0",
            "fc00::/64",
            "fc00::/129",
            "::ffff:10.1.2.3",
            "192.168.64.3",
            "fd00::3",
            r#"{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}"#,
            r#"{"VNI":16777216,"VtepMAC":"c6:d2:32:6f:8f:44"}"#,
            r#"{"PublicKey":"AAAA"}"#,
        ];
        prop_oneof![4 => select(words.to_vec()).prop_map(str::to_owned), 1 => ".{0,20}"]
    }

    proptest! {
        #[test]
        fn never_panics(pod_cidrs in vec(said(), 0..3), texts in vec(said(), 10), network in said()) {
            let names = Family::ALL.into_iter().flat_map(|family| {
                [
                    annotation::backend_data(family),
                    annotation::public_ip(family),
                    annotation::public_ip_overwrite(family),
                    annotation::node_public_ip(family),
                ]
            });
            let names = names.chain([annotation::MANAGED, annotation::BACKEND_TYPE]);
            let node = Node {
                pod_cidrs,
                annotations: names.map(str::to_owned).zip(texts).collect(),
                ..Node::default()
            };
            drop((node.lease(), node.macs(), node.given_public()));
            let network = network.parse().into_iter().map(|it: IpNetwork| (Family::of_network(&it), it));
            drop(node.own_subnets(&network.collect()));
        }
    }
}
